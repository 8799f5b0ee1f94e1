/** The kernel suite: every family at every size and precision, beside peers and ceilings. */
import { CeilingProbe, type Ceilings, currentDevice, type Precision, useEngine } from '@equipoise/backend';
import { formatError, type JobContext, throwIfCancelled } from '@equipoise/core';
import * as tf from '@tensorflow/tfjs-core';
import type { KernelFamily, Sizes } from '../kernels/case.js';
import { type ChosenCase, kernelFamilies } from '../kernels/families.js';
import { makeInputs } from '../kernels/inputs.js';
import type { PeerPool } from '../measure/peer.js';
import { type Contestant, medianSeconds, playRounds, type Round, timed } from '../measure/rounds.js';
import { geometricMean, median } from '../measure/statistics.js';
import type { CaseRecord } from '../record.js';

export interface KernelSuiteOptions {
  /** Only cases whose id contains this. */
  readonly filter: string;
  /** Other sizes than those that families list; empty for the families' own. */
  readonly chosen: readonly ChosenCase[];
  readonly rounds: number;
  /** Seconds of each turn. */
  readonly budget: number;
  readonly precisions: readonly Precision[];
  /** Numbers of threads peers are tried with; the best counts. */
  readonly peerThreads: readonly number[];
}

interface PlannedCase {
  readonly id: string;
  readonly family: KernelFamily;
  readonly sizes: Sizes;
  readonly precision: Precision;
}

function plan({ filter, chosen, precisions }: KernelSuiteOptions): PlannedCase[] {
  const all =
    chosen.length > 0
      ? chosen
      : kernelFamilies.flatMap((family) => family.sizes.map((sizes) => ({ family, sizes })));
  const cases = all.flatMap(({ family, sizes }) =>
    family.precisions.map((precision) => ({
      id: `${family.name} ${family.label(sizes)} ${precision}`,
      family,
      sizes,
      precision,
    })),
  );
  return cases.filter(({ id, precision }) => id.includes(filter) && precisions.includes(precision));
}

/** Runs the suite on `equipoise-cpu`. Peers take part when `peers` is given. */
export async function runKernelSuite(
  options: KernelSuiteOptions,
  peers: PeerPool | undefined,
  { onProgress, signal }: JobContext,
): Promise<{ cases: CaseRecord[]; failures: Record<string, string> }> {
  await useEngine('equipoise-cpu');
  const native = currentDevice()?.native;
  if (native === undefined) throw new Error('the equipoise-cpu engine did not start');
  const probe = new CeilingProbe(native);
  const planned = plan(options);
  const cases: CaseRecord[] = [];
  const failures: Record<string, string> = {};
  try {
    for (const [i, item] of planned.entries()) {
      throwIfCancelled(signal, 'bench');
      onProgress?.({ task: item.id, done: i, total: planned.length, unit: 'case' });
      try {
        const measure = (): Ceilings => {
          throwIfCancelled(signal, 'bench');
          return probe.measure(item.precision);
        };
        cases.push(await runCase(item, options, peers, measure));
      } catch (error) {
        throwIfCancelled(signal, 'bench');
        // The other cases are worth their time all the same.
        failures[item.id] = formatError(error);
      }
    }
  } finally {
    probe.dispose();
  }
  return { cases, failures };
}

async function runCase(
  { id, family, sizes, precision }: PlannedCase,
  options: KernelSuiteOptions,
  peers: PeerPool | undefined,
  ceilings: () => Ceilings,
): Promise<CaseRecord> {
  const native = currentDevice()?.native;
  const inputs = makeInputs(family.inputs(sizes), precision);
  const once = (): void => {
    tf.tidy(() => void family.compute(inputs, sizes));
    native?.synchronize();
  };
  const contestants: Record<string, Contestant> = { ours: timed(once) };
  const { usable, problems } = await peerContestants(family, sizes, precision, options, peers);
  Object.assign(contestants, Object.fromEntries(usable.map(({ key, contestant }) => [key, contestant])));
  try {
    once(); // packs weights, fills caches
    const { kept, discarded } = await playRounds(contestants, ceilings, options);
    const flops = family.flops(sizes);
    const bytes = family.bytes(sizes, precision === 'bf16' ? 2 : 4);
    const floors = kept.map((round) =>
      Math.max(flops / round.ceilings.flops, bytes / round.ceilings.bandwidth),
    );
    return {
      id,
      family: family.name,
      precision,
      kernels: [...family.kernels],
      flops,
      bytes,
      seconds: kept.map((round) => round.seconds.ours as number),
      floors,
      peers: bestPeers(kept, usable),
      peerProblems: problems,
      ofCeiling: median(kept.map((round, i) => (floors[i] as number) / (round.seconds.ours as number))),
      discarded,
    };
  } finally {
    tf.dispose(inputs);
  }
}

interface PeerContestant {
  readonly key: string;
  readonly name: string;
  readonly threads: number;
  readonly contestant: Contestant;
}

/** Every peer of a case at every number of threads; one that cannot run is left out with the reason. */
async function peerContestants(
  family: KernelFamily,
  sizes: Sizes,
  precision: Precision,
  { peerThreads }: KernelSuiteOptions,
  pool: PeerPool | undefined,
): Promise<{ usable: PeerContestant[]; problems: Record<string, string> }> {
  const usable: PeerContestant[] = [];
  const problems: Record<string, string> = {};
  if (pool === undefined) return { usable, problems };
  for (const [name, call] of Object.entries(family.peers?.(sizes) ?? {})) {
    try {
      await pool.time(call, precision, peerThreads[0] as number, 0);
    } catch (error) {
      problems[name] = (error as Error).message;
      continue;
    }
    for (const threads of peerThreads) {
      usable.push({
        key: `${name}@${threads}`,
        name,
        threads,
        contestant: (budget) => pool.time(call, precision, threads, budget),
      });
    }
  }
  return { usable, problems };
}

/** For each peer the number of threads with the best median; the ratio is the median of the rounds' own ratios. */
function bestPeers(kept: readonly Round[], usable: readonly PeerContestant[]): CaseRecord['peers'] {
  const best: CaseRecord['peers'] = {};
  for (const { key, name, threads } of usable) {
    const seconds = medianSeconds(kept, key);
    if (best[name] !== undefined && best[name].seconds <= seconds) continue;
    const ratio = median(
      kept.map((round) => (round.seconds[key] as number) / (round.seconds.ours as number)),
    );
    const samples = kept.map((round) => round.seconds[key] as number);
    best[name] = { seconds, threads, ratio, samples };
  }
  return best;
}

/** Geometric means by family and precision, and what the project promises about adapters. */
export function summarise(cases: readonly CaseRecord[]): Record<string, number> {
  const summary: Record<string, number> = {};
  const groups = new Map<string, CaseRecord[]>();
  for (const item of cases) {
    const key = `${item.family} ${item.precision}`;
    groups.set(key, [...(groups.get(key) ?? []), item]);
  }
  for (const [key, items] of groups) {
    summary[`${key}: share of ceiling`] = geometricMean(items.map((item) => item.ofCeiling as number));
    for (const name of new Set(items.flatMap((item) => Object.keys(item.peers)))) {
      const ratios = items.flatMap((item) =>
        item.peers[name] === undefined ? [] : [item.peers[name].ratio],
      );
      summary[`${key}: times the speed of ${name}`] = geometricMean(ratios);
    }
  }
  for (const precision of ['f32', 'bf16'] as const) {
    const of = (family: string): CaseRecord[] =>
      cases.filter((item) => item.family === family && item.precision === precision);
    const [dora, frozen] = [of('doraLinear'), of('frozenLinear')];
    if (dora.length === 0 || dora.length !== frozen.length) continue;
    const ratios = dora.map((item, i) => median(item.seconds) / median(frozen[i]?.seconds ?? []));
    summary[`doraLinear ${precision}: time over the frozen layer's`] = geometricMean(ratios);
  }
  return summary;
}
