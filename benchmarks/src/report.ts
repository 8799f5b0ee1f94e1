/** Benchmark results as a table for people. */
import { median } from './measure/statistics.js';
import type { BenchmarkRecord, CaseRecord } from './record.js';

/** `12.3 us`, `4.56 ms`. */
export function duration(seconds: number): string {
  if (seconds < 1e-3) return `${(seconds * 1e6).toPrecision(3)} us`;
  return seconds < 1 ? `${(seconds * 1e3).toPrecision(3)} ms` : `${seconds.toPrecision(3)} s`;
}

function rate({ flops, bytes, seconds }: CaseRecord): string {
  const time = median(seconds);
  return flops > 0 ? `${(flops / time / 1e9).toFixed(0)} GFLOP/s` : `${(bytes / time / 1e9).toFixed(1)} GB/s`;
}

function row(item: CaseRecord): string {
  const peers = Object.entries(item.peers).map(
    ([name, { seconds, threads, ratio }]) =>
      `${name} ${duration(seconds)} (${threads} thr.) = ${ratio.toFixed(2)}x`,
  );
  const problems = Object.entries(item.peerProblems).map(([name, problem]) => `${name}: ${problem}`);
  const columns = [
    item.id.padEnd(46),
    duration(median(item.seconds)).padStart(9),
    rate(item).padStart(14),
    `floor ${duration(median(item.floors))}`.padEnd(15),
    `${(100 * item.ofCeiling).toFixed(0).padStart(4)} %`,
    [...peers, ...problems].join('; '),
  ];
  return `${columns.join('  ')}${item.discarded > 0 ? `  (${item.discarded} throttled rounds discarded)` : ''}`.trimEnd();
}

/** The table of a run: times, floors, shares of the ceiling, ratios to peers, and the means. */
export function renderRecord(record: BenchmarkRecord): string[] {
  const { device, machine } = record;
  const lines = [
    `${record.suite}: ${device.model}, ${device.isa}, ${device.threads} threads; Node ${machine.node}`,
    record.peerVersions === null
      ? `peers absent: ${record.peerProblem}`
      : `peers: ${Object.entries(record.peerVersions)
          .map(([name, version]) => `${name} ${version}`)
          .join(', ')}`,
    '',
    ...record.cases.map(row),
    '',
  ];
  for (const [name, value] of Object.entries(record.summary))
    lines.push(`${name.padEnd(60)} ${value.toFixed(2)}`);
  return lines;
}
