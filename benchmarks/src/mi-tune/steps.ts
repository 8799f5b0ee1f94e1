/** A training step of an adapted layer: DoRA beside LoRA and beside PEFT's DoRA, in the same rounds. */
import {
  type AdamWParameter,
  adamW,
  doraLinear,
  doraNorm,
  getPrecision,
  setPrecision,
  useEngine,
} from '@equipoise/backend';
import * as tf from '@tensorflow/tfjs-core';
import { makeInputs } from '../kernels/inputs.js';
import type { PeerPool } from '../measure/peer.js';
import { type Contestant, medianSeconds, playRounds, timed } from '../measure/rounds.js';
import type { Probe } from './main.js';

/** Layers of SD-2.1's UNet that carry adapters: rows of an image, inputs, outputs; the last is a key of the cross-attention. */
const LAYERS = [
  [4096, 320, 320],
  [1024, 640, 640],
  [256, 1280, 1280],
  [77, 1024, 1280],
] as const;
const RANK = 32;

export interface StepRecord {
  readonly layer: string;
  readonly precision: 'f32' | 'bf16';
  readonly loraMs: number;
  readonly doraMs: number;
  /** Median over rounds of DoRA's time over LoRA's. */
  readonly doraToLora: number;
  /** Median over rounds of PEFT's DoRA over ours; null without a peer. */
  readonly peftToDora: number | null;
  readonly discarded: number;
}

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
  probe: Probe,
  pool: PeerPool | undefined,
  { rounds, seconds, images }: { rounds: number; seconds: number; images: number },
): Promise<StepRecord[]> {
  await useEngine('equipoise-cpu');
  const records: StepRecord[] = [];
  for (const precision of ['f32', 'bf16'] as const) {
    setPrecision(precision);
    for (const [perImage, inputs, outputs] of LAYERS) {
      const rows = images * perImage;
      const layer = [rows, inputs, outputs] as const;
      const contestants: Record<string, Contestant> = {
        lora: timed(trainer('lora', layer)),
        dora: timed(trainer('dora', layer)),
      };
      if (pool !== undefined)
        for (const threads of [1, 2])
          contestants[`peft ${threads}`] = (budget) =>
            pool.time(
              { script: 'torch_fused.py', case: { kind: 'dora', rows, inputs, outputs, rank: RANK } },
              precision,
              threads,
              budget,
            );
      const { kept, discarded } = await playRounds(contestants, probe(precision), {
        rounds,
        budget: seconds,
      });
      const ratio = (over: (own: Readonly<Record<string, number>>) => number): number => {
        const values = kept.map(({ seconds: own }) => over(own)).sort((x, y) => x - y);
        return values[values.length >> 1] as number;
      };
      const record: StepRecord = {
        layer: `${rows}x${inputs}x${outputs} r${RANK}`,
        precision,
        loraMs: 1e3 * medianSeconds(kept, 'lora'),
        doraMs: 1e3 * medianSeconds(kept, 'dora'),
        doraToLora: ratio((own) => (own.dora as number) / (own.lora as number)),
        peftToDora:
          pool === undefined
            ? null
            : ratio(
                (own) => Math.min(own['peft 1'] as number, own['peft 2'] as number) / (own.dora as number),
              ),
        discarded,
      };
      records.push(record);
      console.log(JSON.stringify(record));
    }
  }
  setPrecision('f32');
  return records;
}
