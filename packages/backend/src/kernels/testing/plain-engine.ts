/** Runs TensorFlow.js calls on its own `cpu` engine and on the device under test, in both storages, and compares. */
import { requireClose, testEngine } from '@equipoise/testing';
import * as tf from '@tensorflow/tfjs-core';
import type tap from 'tap';
import { toStorage, useEngine } from '../../index.js';
import { numbers, storageOf } from './inputs.js';

type Test = Pick<typeof tap, 'fail' | 'pass'>;

/** Reproducible float32 values. */
export const tensor = (shape: number[], seed = 1): tf.Tensor =>
  tf.tensor(numbers(tf.util.sizeFromShape(shape), seed), shape);
/** Reproducible int32 values from 0 to `below` - 1. */
export const ints = (shape: number[], below: number, seed = 7): tf.Tensor =>
  tf.tensor(
    Int32Array.from(numbers(tf.util.sizeFromShape(shape), seed), (x) => Math.abs(Math.round(x * 16)) % below),
    shape,
    'int32',
  );

export interface Case {
  name: string;
  run: (inputs: tf.Tensor[]) => tf.Tensor | tf.Tensor[];
  inputs: () => tf.Tensor[];
  /** Relative norm of the error allowed; 0 demands the same numbers. */
  tolerance?: number;
  /** Whether bf16 inputs give bf16 results. */
  keepsStorage?: boolean;
  /** Left out in bf16, where intermediate results round. */
  f32Only?: boolean;
}

type Outcome = Array<{ shape: number[]; dtype: string; values: number[] }>;
const results = ({ run, inputs }: Case, storage?: 'bf16'): { outcome: Outcome; storages: string[] } =>
  tf.tidy(() => {
    const given = inputs().map((x) => (storage && x.dtype === 'float32' ? toStorage(x, storage) : x));
    const ys = [run(given)].flat();
    const storages = storage ? ys.filter((y) => y.dtype === 'float32').map(storageOf) : [];
    return {
      outcome: ys.map((y) => ({ shape: y.shape, dtype: y.dtype, values: [...y.dataSync()] })),
      storages,
    };
  });

/** Runs the cases on TensorFlow.js's engine, then on ours in f32 and bf16, and compares. */
export async function compare(t: Test, cases: Case[]): Promise<void> {
  await useEngine('cpu');
  const expected = cases.map((c) => results(c).outcome);
  await useEngine(testEngine());
  cases.forEach((c, i) => {
    const check = (got: Outcome, storage: string, tolerance: number) => {
      const want = expected[i] as Outcome;
      if (got.length !== want.length)
        t.fail(`${c.name} ${storage}: ${got.length} results instead of ${want.length}`);
      want.forEach((y, k) => {
        const label = `${c.name} ${storage} result ${k}`;
        const actual = got[k] as Outcome[number];
        if (String(actual.shape) !== String(y.shape) || actual.dtype !== y.dtype)
          t.fail(`${label}: ${actual.dtype} [${actual.shape}] instead of ${y.dtype} [${y.shape}]`);
        else if (tolerance > 0) requireClose(label, actual.values, y.values, { relativeNorm: tolerance });
        else if (actual.values.some((v, j) => v !== y.values[j]))
          t.fail(`${label}: ${actual.values.slice(0, 20)} instead of ${y.values.slice(0, 20)}`);
      });
    };
    check(results(c).outcome, 'f32', c.tolerance ?? 0);
    if (c.f32Only) return;
    const narrow = results(c, 'bf16');
    check(narrow.outcome, 'bf16', c.keepsStorage && c.tolerance ? 5e-3 : (c.tolerance ?? 0));
    const want = c.keepsStorage ? 'bf16' : 'f32';
    if (narrow.storages.some((s) => s !== want))
      t.fail(`${c.name}: stored as ${narrow.storages}, expected ${want}`);
  });
  t.pass(`${cases.length} cases in two storages`);
}
