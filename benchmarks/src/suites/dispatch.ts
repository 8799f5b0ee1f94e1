/** What TensorFlow.js costs per op: the JavaScript thread's time for ops on tensors too small to compute anything. */
import { currentDevice, groupNorm, linear, useEngine } from '@equipoise/backend';
import * as tf from '@tensorflow/tfjs-core';
import { median } from '../measure/statistics.js';

export interface DispatchRecord {
  readonly op: string;
  /** Median microseconds of the JavaScript thread per op. */
  readonly microseconds: number;
}

const OPS_PER_SAMPLE = 500;
const SAMPLES = 30;

/** Times op dispatch on `equipoise-cpu`, results disposed as model code does. */
export async function runDispatchSuite(): Promise<DispatchRecord[]> {
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
  const records = Object.entries(ops).map(([op, once]) => ({
    op,
    microseconds: sample(once, () => native?.synchronize()),
  }));
  tf.dispose([x, image, vector, weight]);
  return records;
}

function sample(once: () => tf.Tensor, settle: () => void): number {
  const samples: number[] = [];
  for (let s = 0; s < SAMPLES; s++) {
    const start = performance.now();
    for (let i = 0; i < OPS_PER_SAMPLE; i++) once().dispose();
    samples.push(((performance.now() - start) * 1e3) / OPS_PER_SAMPLE);
    settle();
  }
  return median(samples);
}
