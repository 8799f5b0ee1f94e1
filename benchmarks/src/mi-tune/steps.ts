/** A training step of an adapted layer: DoRA beside LoRA and beside PEFT's DoRA, in the same rounds. */
import {
  type AdamWParameter,
  adamW,
  type Ceilings,
  doraLinear,
  doraNorm,
  getPrecision,
  setPrecision,
  useEngine,
} from '@equipoise/backend';
import { throwIfCancelled } from '@equipoise/core';
import * as tf from '@tensorflow/tfjs-core';
import { makeInputs } from '../kernels/inputs.js';
import type { PeerPool } from '../measure/peer.js';
import {
  type Contestant,
  medianRatio,
  medianSeconds,
  playRounds,
  type Round,
  timed,
} from '../measure/rounds.js';
import { median } from '../measure/statistics.js';
import { countWork, floorSeconds, totalWork } from '../measure/work.js';
import type { CaseRecord } from '../record.js';
import type { Bench, Part } from './main.js';

/** Layers of SD-2.1's UNet that carry adapters: rows of an image, inputs, outputs; the last is a key of the cross-attention. */
const LAYERS = [
  [4096, 320, 320],
  [1024, 640, 640],
  [256, 1280, 1280],
  [77, 1024, 1280],
] as const;
const RANK = 32;

/** Forward, backward and AdamW of one adapted layer. DoRA's norms are computed in every step: accumulation 1. */
function trainer(kind: 'lora' | 'dora', [m, k, n]: readonly [number, number, number]): () => Promise<void> {
  const [x, dy, weight, a, b] = makeInputs(
    [
      { shape: [m, k], role: 'activation' },
      { shape: [m, n], role: 'activation' },
      { shape: [n, k], role: 'weight', scale: k ** -0.5 },
      { shape: [RANK, k], role: 'variable', scale: 1 / RANK },
      { shape: [n, RANK], role: 'variable', scale: 0.1 },
    ],
    getPrecision(),
  ) as [tf.Tensor, tf.Tensor, tf.Tensor, tf.Variable, tf.Variable];
  const magnitude = kind === 'dora' ? tf.variable(doraNorm(weight, a, b, 1)) : null;
  const trained = [a, b, ...(magnitude === null ? [] : [magnitude])];
  const moments = trained.map((v) => ({
    m: tf.variable(tf.zeros(v.shape)),
    v: tf.variable(tf.zeros(v.shape)),
  }));
  let step = 0;
  return async () => {
    const norm = magnitude === null ? undefined : doraNorm(weight, a, b, 1);
    const layer = (...inputs: tf.Tensor[]): tf.Tensor => {
      const [input, loraA, loraB, m = null] = inputs as [tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor?];
      const options = { weight, bias: null, loraA, loraB, magnitude: m, scaling: 1 };
      return doraLinear(input, { ...options, ...(norm !== undefined && { norm }) });
    };
    const [dx, ...gradients] = tf.grads(layer)([x, ...trained], dy) as [tf.Tensor, ...tf.Tensor[]];
    const parameters: AdamWParameter[] = trained.map((parameter, i) => ({
      parameter,
      gradient: gradients[i] as tf.Tensor,
      ...(moments[i] as { m: tf.Variable; v: tf.Variable }),
    }));
    const length = adamW(parameters, {
      step: ++step,
      learningRate: 1e-6,
      weightDecay: 0.01,
      maxNorm: 1,
      gradientScale: 1,
    });
    await length.data();
    tf.dispose([length, dx, ...gradients, ...(norm === undefined ? [] : [norm])]);
  };
}

export async function measureSteps(
  { probe, context: { signal, onProgress } }: Bench,
  pool: PeerPool | undefined,
  { rounds, seconds: budget, images }: { rounds: number; seconds: number; images: number },
  threads: readonly number[],
): Promise<Part> {
  await useEngine('equipoise-cpu');
  const cases: CaseRecord[] = [];
  const summary: Record<string, number> = {};
  let done = 0;
  for (const precision of ['f32', 'bf16'] as const) {
    setPrecision(precision);
    for (const [perImage, inputs, outputs] of LAYERS) {
      const rows = images * perImage;
      const task = `${rows}x${inputs}x${outputs} ${precision}`;
      onProgress?.({ task, done: done++, total: 2 * LAYERS.length, unit: 'layer' });
      const layer = [rows, inputs, outputs] as const;
      const calls = { lora: trainer('lora', layer), dora: trainer('dora', layer) };
      const contestants: Record<string, Contestant> = { lora: timed(calls.lora), dora: timed(calls.dora) };
      const peers = pool === undefined ? [] : threads.map((count) => ({ key: `peft ${count}`, count }));
      const dora = { kind: 'dora', rows, inputs, outputs, rank: RANK };
      for (const { key, count } of peers)
        contestants[key] = (seconds) =>
          (pool as PeerPool).time({ script: 'torch_fused.py', case: dora }, precision, count, seconds);
      const ceilings = (): Ceilings => {
        throwIfCancelled(signal, 'mi-tune');
        return probe.measure(precision);
      };
      const { kept, discarded } = await playRounds(contestants, ceilings, { rounds, budget });
      const name = `${rows}x${inputs}x${outputs} r${RANK}`;
      for (const kind of ['lora', 'dora'] as const) {
        const work = await countWork(calls[kind]);
        const seconds = kept.map((round) => round.seconds[kind] as number);
        const floors = kept.map((round) => floorSeconds(work, round.ceilings));
        cases.push({
          id: `${kind} step ${name} ${precision}`,
          family: `${kind} step`,
          precision,
          kernels: [],
          ...totalWork(work),
          seconds,
          floors,
          units: { name: 'update', count: 1 },
          peers: kind === 'dora' ? fastestPeft(kept, peers) : {},
          peerProblems: {},
          ofCeiling: median(seconds.map((value, i) => (floors[i] as number) / value)),
          discarded,
        });
      }
      summary[`${name} ${precision}: DoRA over LoRA (at most 1.05 is wanted)`] = medianRatio(
        kept,
        'dora',
        'lora',
      );
    }
  }
  setPrecision('f32');
  return { cases, summary };
}

/** PEFT at the number of threads with the better median. */
function fastestPeft(
  kept: readonly Round[],
  peers: readonly { readonly key: string; readonly count: number }[],
): CaseRecord['peers'] {
  const [best] = peers
    .map(({ key, count }) => ({ key, threads: count, seconds: medianSeconds(kept, key) }))
    .sort((a, b) => a.seconds - b.seconds);
  if (best === undefined) return {};
  const { key, threads, seconds } = best;
  const samples = kept.map((round) => round.seconds[key] as number);
  return { peft: { seconds, threads, ratio: medianRatio(kept, key, 'dora'), samples } };
}
