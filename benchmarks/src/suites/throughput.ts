/** Images, pairs and updates per second: whole jobs on the embedded model, JavaScript and all. */
import { CeilingProbe, currentDevice, type Precision, setPrecision, useEngine } from '@equipoise/backend';
import { formatError, type JobContext, throwIfCancelled } from '@equipoise/core';
import { playRounds, timed } from '../measure/rounds.js';
import { geometricMean, median } from '../measure/statistics.js';
import { countWork, floorSeconds, totalWork } from '../measure/work.js';
import type { CaseRecord } from '../record.js';
import { type Job, jobs, openJob } from './jobs.js';

export interface ThroughputOptions {
  /** Only cases whose id contains this. */
  readonly filter: string;
  readonly rounds: number;
  /** Seconds of each turn, one call at least. */
  readonly budget: number;
  readonly precisions: readonly Precision[];
}

/** Runs the suite on `equipoise-cpu`. */
export async function runThroughputSuite(
  options: ThroughputOptions,
  { onProgress, signal }: JobContext,
): Promise<{ cases: CaseRecord[]; failures: Record<string, string>; summary: Record<string, number> }> {
  await useEngine('equipoise-cpu');
  const native = currentDevice()?.native;
  if (native === undefined) throw new Error('the equipoise-cpu engine did not start');
  const planned = jobs
    .flatMap((job) => job.precisions.map((precision) => ({ job, precision, id: `${job.name} ${precision}` })))
    .filter(({ id, precision }) => id.includes(options.filter) && options.precisions.includes(precision));
  const probe = new CeilingProbe(native);
  const cases: CaseRecord[] = [];
  const failures: Record<string, string> = {};
  try {
    for (const [i, { job, precision, id }] of planned.entries()) {
      onProgress?.({ task: id, done: i, total: planned.length, unit: 'case' });
      try {
        cases.push(await runJob(id, job, precision, options, probe, signal));
      } catch (error) {
        throwIfCancelled(signal, 'bench');
        failures[id] = formatError(error);
      }
    }
  } finally {
    probe.dispose();
    setPrecision('f32');
  }
  return { cases, failures, summary: summarise(cases) };
}

async function runJob(
  id: string,
  job: Job,
  precision: Precision,
  { rounds, budget }: ThroughputOptions,
  probe: CeilingProbe,
  signal: AbortSignal | undefined,
): Promise<CaseRecord> {
  const { once, close } = await openJob(job, precision);
  try {
    await once(); // packs weights, fills caches
    const work = await countWork(once);
    const ceilings = () => {
      throwIfCancelled(signal, 'bench');
      return probe.measure(precision);
    };
    const { kept, discarded } = await playRounds({ ours: timed(once) }, ceilings, { rounds, budget });
    const seconds = kept.map((round) => round.seconds.ours as number);
    const floors = kept.map((round) => floorSeconds(work, round.ceilings));
    return {
      id,
      family: job.family,
      precision,
      kernels: [],
      ...totalWork(work),
      seconds,
      floors,
      units: job.units,
      peers: {},
      peerProblems: {},
      ofCeiling: median(seconds.map((value, i) => (floors[i] as number) / value)),
      discarded,
    };
  } finally {
    close();
  }
}

function summarise(cases: readonly CaseRecord[]): Record<string, number> {
  const rates = cases.flatMap(({ id, units, seconds }) =>
    units === undefined ? [] : [[`${id}: ${units.name}s per second`, units.count / median(seconds)] as const],
  );
  const shares = cases.map(({ ofCeiling }) => ofCeiling as number);
  return { ...Object.fromEntries(rates), 'share of ceiling': geometricMean(shares) };
}
