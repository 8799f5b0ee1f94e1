/** Profiles as Chrome traces, which chrome://tracing and Perfetto (ui.perfetto.dev) open. */
import type { DeviceProfile } from './session.js';

const PROCESS = 1;
const HOST = 1;
const DEVICE = 2;

/**
 * The lines of a trace file: tasks of the JavaScript thread above the device's launches, with FLOPs, bytes and rates of
 * each, and the device memory in use.
 *
 * @param limit launches to write at most, from the first one on: viewers stop at a few million
 */
export function* traceLines(profile: DeviceProfile, limit = Number.POSITIVE_INFINITY): Generator<string> {
  const { launches, slices, memory, device } = profile;
  // Microseconds since the start, to the nanosecond.
  const micros = (ms: number): number => Math.round(1e6 * ms) / 1e3;
  const at = (ms: number): number => micros(ms - profile.startMs);
  const span = (startMs: number, endMs: number) => ({ ts: at(startMs), dur: micros(endMs - startMs) });
  const named = (name: string, tid: number, value: string): string =>
    JSON.stringify({ name, ph: 'M', pid: PROCESS, tid, args: { name: value } });

  yield '{"displayTimeUnit": "ms", "traceEvents": [';
  yield `${named('process_name', 0, `equipoise ${device.device}: ${device.model}`)},`;
  yield `${named('thread_name', HOST, 'JavaScript: tasks')},`;
  yield named('thread_name', DEVICE, `${device.device} queue: launches`);
  for (const { task, startMs, endMs, units, unit = 'unit' } of slices)
    yield `,${JSON.stringify({ name: task, cat: 'task', ph: 'X', pid: PROCESS, tid: HOST, ...span(startMs, endMs), args: { [`${unit}s`]: units } })}`;
  for (const { ms, inUse } of memory.samples)
    yield `,${JSON.stringify({ name: 'device memory', ph: 'C', pid: PROCESS, ts: at(ms), args: { bytes: inUse } })}`;
  for (const [i, index] of launches.kind.entries()) {
    if (i >= limit) break;
    const [startMs, endMs] = [launches.startMs[i] as number, launches.endMs[i] as number];
    const { op, shapes, flops, bytes } = launches.kinds[index] as (typeof launches.kinds)[number];
    const perSecond = 1e3 / Math.max(endMs - startMs, 1e-6);
    const args = {
      shapes,
      flops,
      bytes,
      'GFLOP/s': round((flops * perSecond) / 1e9),
      'GB/s': round((bytes * perSecond) / 1e9),
    };
    yield `,${JSON.stringify({ name: op, cat: 'launch', ph: 'X', pid: PROCESS, tid: DEVICE, ...span(startMs, endMs), args })}`;
  }
  yield ']}';
}

const round = (x: number): number => Number(x.toPrecision(4));
