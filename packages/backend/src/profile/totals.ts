/** Sums over the launches of a profile. */
import type { Ceilings } from './ceilings.js';
import type { DeviceProfile, Launches } from './session.js';

export interface LaunchTotals {
  readonly op: string;
  /** Shapes of the inputs, or empty for an op at all its shapes. */
  readonly shapes: string;
  readonly launches: number;
  readonly ms: number;
  readonly flops: number;
  readonly bytes: number;
  /** Milliseconds that the ceilings allow at least: for each launch the larger of its FLOPs and its bytes over them. */
  readonly floorMs: number;
}

/** Totals by op, or by op and shapes; those that took the most time first. */
export function launchTotals(launches: Launches, by: 'op' | 'shapes', ceilings: Ceilings): LaunchTotals[] {
  type Sums = { -readonly [K in keyof LaunchTotals]: LaunchTotals[K] };
  const totals = new Map<string, Sums>();
  const ofKind = launches.kinds.map(({ op, shapes: own }) => {
    const shapes = by === 'op' ? '' : own;
    const key = `${op} ${shapes}`;
    const known = totals.get(key);
    if (known !== undefined) return known;
    const fresh: Sums = { op, shapes, launches: 0, ms: 0, flops: 0, bytes: 0, floorMs: 0 };
    totals.set(key, fresh);
    return fresh;
  });
  const floors = launches.kinds.map(
    ({ flops, bytes }) => 1e3 * Math.max(flops / ceilings.flops, bytes / ceilings.bandwidth),
  );
  for (const [i, kind] of launches.kind.entries()) {
    const sums = ofKind[kind] as Sums;
    const { flops, bytes } = launches.kinds[kind] as Launches['kinds'][number];
    sums.launches++;
    sums.ms += (launches.endMs[i] as number) - (launches.startMs[i] as number);
    sums.flops += flops;
    sums.bytes += bytes;
    sums.floorMs += floors[kind] as number;
  }
  return [...totals.values()].sort((a, b) => b.ms - a.ms);
}

export interface TaskTotals {
  readonly task: string;
  readonly ms: number;
  /** Of it, milliseconds in which the device ran a launch. */
  readonly deviceMs: number;
  /** Of it, milliseconds in which the JavaScript thread was not waiting. */
  readonly activeMs: number;
  readonly units: number;
  readonly unit: string;
}

/**
 * Where the wall time went, task by task in the order of their first appearance; the times add up to the whole. Tasks
 * that are numbered (`epoch 3/30`) are one.
 */
export function taskTotals({ slices, launches }: DeviceProfile): TaskTotals[] {
  type Sums = { -readonly [K in keyof TaskTotals]: TaskTotals[K] };
  const totals = new Map<string, Sums>();
  let next = 0;
  for (const { task: name, startMs, endMs, activeMs, units, unit } of slices) {
    const task = name.replace(/ \d+\/\d+$/, '');
    const sums = totals.get(task) ?? { task, ms: 0, deviceMs: 0, activeMs: 0, units: 0, unit: '' };
    totals.set(task, sums);
    sums.ms += endMs - startMs;
    sums.activeMs += activeMs;
    sums.units += units;
    if (unit !== undefined) sums.unit = unit;
    // Launches do not overlap, and neither do slices; a launch that crosses a border counts on both sides of it.
    for (; next < launches.kind.length; next++) {
      const [start, end] = [launches.startMs[next] as number, launches.endMs[next] as number];
      sums.deviceMs += Math.max(0, Math.min(end, endMs) - Math.max(start, startMs));
      if (end > endMs) break;
    }
  }
  return [...totals.values()];
}

/** Milliseconds in which the device ran launches: they follow one another. */
export function busyMs({ startMs, endMs }: Launches): number {
  return endMs.reduce((sum, end, i) => sum + end - (startMs[i] as number), 0);
}
