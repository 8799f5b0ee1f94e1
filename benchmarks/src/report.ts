/** Benchmark results as a table for people. */
import { median } from './measure/statistics.js';
import type { BenchmarkRecord, CaseRecord } from './record.js';

/** `12.3 us`, `4.56 ms`. */
export function duration(seconds: number): string {
  if (seconds < 1e-3) return `${(seconds * 1e6).toPrecision(3)} us`;
  return seconds < 1 ? `${(seconds * 1e3).toPrecision(3)} ms` : `${seconds.toPrecision(3)} s`;
}

function rate({ flops, bytes, seconds, units }: CaseRecord): string {
  const time = median(seconds);
  if (units !== undefined) return `${Number((units.count / time).toPrecision(3))} ${units.name}s/s`;
  return flops > 0 ? `${(flops / time / 1e9).toFixed(0)} GFLOP/s` : `${(bytes / time / 1e9).toFixed(1)} GB/s`;
}

function row(item: CaseRecord): string {
  const peers = Object.entries(item.peers).map(
    ([name, { seconds, threads, ratio }]) =>
      `${name} ${duration(seconds)}${threads === undefined ? '' : ` (${threads} thr.)`} = ${ratio.toFixed(2)}x`,
  );
  const problems = Object.entries(item.peerProblems).map(([name, problem]) => `${name}: ${problem}`);
  const columns = [
    item.id.padEnd(46),
    duration(median(item.seconds)).padStart(9),
    rate(item).padStart(14),
    (item.ofCeiling === null ? '' : `floor ${duration(median(item.floors))}`).padEnd(15),
    (item.ofCeiling === null ? '' : `${(100 * item.ofCeiling).toFixed(0)} %`).padStart(6),
    [...peers, ...problems].join('; '),
  ];
  return `${columns.join('  ')}${item.discarded > 0 ? `  (${item.discarded} throttled rounds discarded)` : ''}`.trimEnd();
}

function peerLine({ peerVersions, peerProblem }: BenchmarkRecord): string[] {
  if (peerVersions === null) return peerProblem === null ? [] : [`peers absent: ${peerProblem}`];
  const versions = Object.entries(peerVersions).map(([name, version]) => `${name} ${version}`);
  return [`peers: ${versions.join(', ')}`];
}

/** The table of a run: times, floors, shares of the ceiling, ratios to peers, and the means. */
export function renderRecord(record: BenchmarkRecord): string[] {
  const { device, machine } = record;
  // A GPU has neither of the latter.
  const processor = [device.model, device.isa, device.threads && `${device.threads} threads`];
  const lines = [
    `${record.suite}: ${processor.filter(Boolean).join(', ')}; Node ${machine.node}`,
    ...peerLine(record),
    '',
    ...record.cases.map(row),
    ...Object.entries(record.failures).map(
      ([id, message]) => `${id.padEnd(46)}  FAILED: ${message.split('\n')[0]}`,
    ),
    '',
  ];
  for (const [name, value] of Object.entries(record.summary))
    if (value !== null) lines.push(`${name.padEnd(60)} ${Number(value.toPrecision(4))}`);
  return lines;
}
