/** What TensorFlow.js costs per op: the JavaScript thread's time for ops on tensors too small to compute anything. */
import { currentDevice, groupNorm, linear, useEngine } from '@equipoise/backend';
import { type JobContext, throwIfCancelled } from '@equipoise/core';
import * as tf from '@tensorflow/tfjs-core';
import { playRounds } from '../measure/rounds.js';
import type { CaseRecord } from '../record.js';

const OPS_PER_SAMPLE = 500;
const SAMPLES = 3;
/** Iterations of the yardstick: about a millisecond. */
const ITERATIONS = 1_000_000;

/**
 * Times op dispatch on `equipoise-cpu`, results disposed as model code does. The yardstick of a round is a loop of
 * integer arithmetic on the same thread: it shares clock and load with what is timed, and never changes.
 */
export async function runDispatchSuite(rounds: number, { signal }: JobContext): Promise<CaseRecord[]> {
  await useEngine('equipoise-cpu');
  const native = currentDevice()?.native;
  const x = tf.ones([4, 4]);
  const image = tf.ones([1, 2, 2, 32]);
  const vector = tf.ones<tf.Rank.R1>([32]);
  const weight = tf.ones([4, 4]);
  const ops: Record<string, () => tf.Tensor> = {
    add: () => tf.add(x, x),
    reshape: () => tf.reshape(x, [16]),
    transpose: () => tf.transpose(x),
    matMul: () => tf.matMul(x as tf.Tensor2D, x as tf.Tensor2D),
    linear: () => linear(x, weight, null),
    groupNorm: () => groupNorm(image, vector, vector, { groups: 32, epsilon: 1e-5, activation: 'silu' }),
  };
  const turn = (once: () => tf.Tensor) => async (): Promise<number> => {
    throwIfCancelled(signal, 'dispatch');
    let best = Number.POSITIVE_INFINITY;
    for (let sample = 0; sample < SAMPLES; sample++) {
      const start = performance.now();
      for (let i = 0; i < OPS_PER_SAMPLE; i++) once().dispose();
      best = Math.min(best, (performance.now() - start) / 1e3 / OPS_PER_SAMPLE);
      native?.synchronize();
    }
    return best;
  };
  const contestants = Object.fromEntries(Object.entries(ops).map(([op, once]) => [op, turn(once)]));
  for (const once of Object.values(contestants)) await once(); // compiled by then
  const { kept, discarded } = await playRounds(contestants, loopRate, { rounds, budget: 0 });
  tf.dispose([x, image, vector, weight]);
  return Object.keys(ops).map((op) => ({
    id: `dispatch ${op}`,
    family: 'dispatch',
    precision: 'f32',
    kernels: [],
    flops: 0,
    bytes: 0,
    seconds: kept.map(({ seconds }) => seconds[op] as number),
    floors: kept.map(({ ceilings }) => 1e3 / ceilings.flops),
    units: { name: 'op', count: 1 },
    peers: {},
    peerProblems: {},
    ofCeiling: null,
    discarded,
  }));
}

/** Iterations per second of an integer loop: best of three. */
function loopRate(): { flops: number; bandwidth: number } {
  let best = 0;
  for (let i = 0; i < 3; i++) {
    const start = performance.now();
    let state = i + 1;
    for (let k = 0; k < ITERATIONS; k++) state = (Math.imul(state, 1664525) + 1013904223) ^ (state >>> 7);
    const seconds = (performance.now() - start) / 1e3;
    // Its result is used, or the loop might be left out.
    if (state !== 0.5) best = Math.max(best, ITERATIONS / seconds);
  }
  return { flops: best, bandwidth: Number.POSITIVE_INFINITY };
}
