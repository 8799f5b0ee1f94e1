/** A profile as tables for people. */
import type { LaunchTotals, TaskTotals } from '@equipoise/backend';
import type { ProfileRecord } from './report.js';

/** `12.3 us`, `4.56 ms`, `7.89 s`. */
function duration(ms: number): string {
  if (ms < 1) return `${(ms * 1e3).toPrecision(3)} us`;
  return ms < 1e3 ? `${ms.toPrecision(3)} ms` : `${(ms / 1e3).toPrecision(4)} s`;
}

const percent = (part: number, whole: number): string =>
  whole > 0 ? `${((100 * part) / whole).toFixed(1)} %` : '';
const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(1)} MB`;

/** Columns as wide as their widest cell; the first one to the left, the others to the right. */
function table(head: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const widths = head.map((name, i) => Math.max(name.length, ...rows.map((row) => row[i]?.length ?? 0)));
  return [head, ...rows].map((row) =>
    row
      .map((cell, i) => (i === 0 ? cell.padEnd(widths[i] as number) : cell.padStart(widths[i] as number)))
      .join('  ')
      .trimEnd(),
  );
}

function taskRow({ task, ms, deviceMs, activeMs, units, unit }: TaskTotals): string[] {
  const done = units === 0 ? ['', '', ''] : [`${units} ${unit}s`, duration(ms / units), perSecond(units, ms)];
  return [task, duration(ms), percent(deviceMs, ms), percent(activeMs, ms), ...done];
}

const perSecond = (units: number, ms: number): string => `${Number(((1e3 * units) / ms).toPrecision(3))}/s`;

/** FLOP/s and bytes per second are blank where an op has none, and the share of the ceiling where it has neither. */
function launchRow(item: LaunchTotals, deviceMs: number): string[] {
  const { op, shapes, launches, ms, flops, bytes, floorMs } = item;
  return [
    shapes === '' ? op : `${op} ${shapes}`,
    String(launches),
    duration(ms),
    percent(ms, deviceMs),
    duration(ms / launches),
    flops > 0 ? (flops / ms / 1e6).toFixed(1) : '',
    bytes > 0 ? (bytes / ms / 1e6).toFixed(1) : '',
    floorMs > 0 ? percent(floorMs, ms) : '',
  ];
}

function launchTable(title: string, items: readonly LaunchTotals[], deviceMs: number, top: number): string[] {
  const head = [title, 'launches', 'time', 'of device', 'mean', 'GFLOP/s', 'GB/s', 'of ceiling'];
  const rest = items.length - top;
  return [
    ...table(
      head,
      items.slice(0, top).map((item) => launchRow(item, deviceMs)),
    ),
    ...(rest > 0 ? [`... ${rest} more: --top or --json`] : []),
  ];
}

/** What is said of a device in its line; libraries and the ways that products took on CUDA have lines of their own. */
const SHORT = ['isa', 'matrixIsa', 'threads', 'computeCapability', 'multiprocessors'];

/** The profile's tables, `top` rows each. */
export function renderProfile(record: ProfileRecord, top: number): string[] {
  const { device, ms, deviceMs, launches, ceilings, memory, precision } = record;
  const { device: name, model, ...details } = device;
  const traits = Object.entries(details).filter(([, value]) => typeof value !== 'boolean');
  const short = traits.filter(([key]) => SHORT.includes(key)).map(([key, value]) => `${key} ${value}`);
  const long = traits.filter(([key]) => !SHORT.includes(key)).map(([key, value]) => `  ${key}: ${value}`);
  return [
    '',
    `profile: ${[`${name} (${model})`, ...short].join(', ')}; ${precision}`,
    ...long,
    `wall time ${duration(ms)}; device busy ${duration(deviceMs)} (${percent(deviceMs, ms)}) in ${launches} launches`,
    `ceilings: ${(ceilings.flops / 1e9).toFixed(0)} GFLOP/s ${precision}, ${(ceilings.bandwidth / 1e9).toFixed(1)} GB/s`,
    `memory at the peak: ${megabytes(memory.devicePeakBytes)} of tensors, ${megabytes(memory.residentPeakBytes)} resident`,
    '',
    ...table(['task', 'time', 'device', 'JavaScript', 'done', 'each', 'rate'], record.tasks.map(taskRow)),
    '',
    ...launchTable('op', record.ops, deviceMs, top),
    '',
    ...launchTable('op and shapes', record.shapes, deviceMs, top),
  ];
}
