/** One full-size case: every side in a process of its own, forwards taken in turn. */
import { stat } from 'node:fs/promises';
import path from 'node:path';
import type { CeilingProbe } from '@equipoise/backend';
import { throwIfCancelled } from '@equipoise/core';
import { type Contestant, medianSeconds, playRounds, type Round } from '../measure/rounds.js';
import { median } from '../measure/statistics.js';
import { floorSeconds, totalWork } from '../measure/work.js';
import type { CaseRecord } from '../record.js';
import { type Measurement, Participant } from './participant.js';
import type { ModelKind } from './protocol.js';

export const CASES = {
  'unet-1': { model: 'unet', batch: 1 },
  'unet-2': { model: 'unet', batch: 2 },
  text: { model: 'text', batch: 108 },
  vae: { model: 'vae', batch: 1 },
} as const satisfies Record<string, { model: ModelKind; batch: number }>;
export type CaseName = keyof typeof CASES;

export interface ModelBench {
  readonly folder: string;
  /** The peers' Python; undefined for ours alone. */
  readonly python: string | undefined;
  readonly rounds: number;
  readonly threads: number;
  readonly probe: CeilingProbe;
  readonly signal: AbortSignal | undefined;
}

const OURS = 'equipoise';
const PRECISION = 'bf16';

function ceilingsOf({ probe, signal }: ModelBench) {
  return () => {
    throwIfCancelled(signal, 'models');
    return probe.measure(PRECISION);
  };
}

/** Peers by name, with the rounds' own ratios. */
function peersOf(kept: readonly Round[], names: readonly string[], threads: number): CaseRecord['peers'] {
  const of = (name: string): number[] => kept.map(({ seconds }) => seconds[name] as number);
  return Object.fromEntries(
    names.map((name) => {
      const samples = of(name);
      const ratio = median(of(OURS).map((own, i) => (samples[i] as number) / own));
      const peer = { seconds: medianSeconds(kept, name), ratio, samples };
      return [name, name.startsWith('PyTorch') ? { ...peer, threads } : peer];
    }),
  );
}

export async function measureForward(name: CaseName, bench: ModelBench): Promise<CaseRecord> {
  const { folder, python, threads, rounds } = bench;
  const { model, batch } = CASES[name];
  const layouts = model === 'text' ? (['default'] as const) : (['default', 'channels_last'] as const);
  const peers =
    python === undefined
      ? []
      : layouts.map((layout) => ({ layout, side: Participant.peer(`PyTorch ${layout}`, python) }));
  const ours = Participant.ours();
  const sides = [ours, ...peers.map(({ side }) => side)];
  const peakBytes: Record<string, number> = {};
  const turn =
    (side: Participant): Contestant =>
    async () => {
      const { seconds, peakBytes: peak } = await side.measure({ op: 'run', batch });
      peakBytes[side.name] = peak;
      return seconds;
    };
  try {
    for (const { layout, side } of peers) await side.measure({ op: 'load', folder, model, layout, threads });
    await ours.measure({ op: 'load', folder, model });
    for (const side of sides) await side.measure({ op: 'run', batch });
    const { work = [] } = await ours.measure({ op: 'count', batch });
    const contestants = Object.fromEntries(sides.map((side) => [side.name, turn(side)]));
    const { kept, discarded } = await playRounds(contestants, ceilingsOf(bench), { rounds, budget: 0 });
    const seconds = kept.map((round) => round.seconds[OURS] as number);
    const floors = kept.map((round) => floorSeconds(work, round.ceilings));
    return {
      id: `${name} ${PRECISION}`,
      family: 'models',
      precision: PRECISION,
      kernels: [],
      ...totalWork(work),
      seconds,
      floors,
      peers: peersOf(
        kept,
        peers.map(({ side }) => side.name),
        threads,
      ),
      peerProblems: {},
      peakBytes,
      ofCeiling: median(seconds.map((value, i) => (floors[i] as number) / value)),
      discarded,
    };
  } finally {
    for (const side of sides) await side.close();
  }
}

/** One action in a process of its own. */
async function alone(
  side: Participant,
  request: Parameters<Participant['measure']>[0],
): Promise<Measurement> {
  try {
    return await side.measure(request);
  } finally {
    await side.close();
  }
}

const READING = 'reading, fresh memory';

/** Loads the UNet; the yardstick is reading its file into fresh memory, and `bytes` are the file's. */
export async function measureLoading(bench: ModelBench): Promise<CaseRecord> {
  const { folder, python, threads, rounds } = bench;
  const file = path.join(folder, 'unet', 'diffusion_pytorch_model.safetensors');
  const { size } = await stat(file);
  const turns: Record<string, () => Promise<Measurement>> = {
    'reading, one buffer': () => alone(Participant.ours(), { op: 'read', path: file, fresh: false }),
    [READING]: () => alone(Participant.ours(), { op: 'read', path: file, fresh: true }),
    [OURS]: () => alone(Participant.ours(), { op: 'load', folder, model: 'unet' }),
  };
  if (python !== undefined)
    turns.PyTorch = () =>
      alone(Participant.peer('PyTorch', python), {
        op: 'load',
        folder,
        model: 'unet',
        layout: 'default',
        threads,
      });
  const peakBytes: Record<string, number> = {};
  const contestants = Object.fromEntries(
    Object.entries(turns).map(([name, turn]): [string, Contestant] => [
      name,
      async () => {
        const { seconds, peakBytes: peak } = await turn();
        peakBytes[name] = Math.max(peakBytes[name] ?? 0, peak);
        return seconds;
      },
    ]),
  );
  for (const contestant of Object.values(contestants)) await contestant(0); // warms the page cache
  const { kept, discarded } = await playRounds(contestants, ceilingsOf(bench), { rounds, budget: 0 });
  const others = Object.keys(turns).filter((name) => name !== OURS);
  return {
    id: `load ${PRECISION}`,
    family: 'models',
    precision: PRECISION,
    kernels: [],
    flops: 0,
    bytes: size,
    seconds: kept.map(({ seconds }) => seconds[OURS] as number),
    floors: kept.map(({ seconds }) => seconds[READING] as number),
    peers: peersOf(kept, others, threads),
    peerProblems: {},
    peakBytes,
    ofCeiling: null,
    discarded,
  };
}
