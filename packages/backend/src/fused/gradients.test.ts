/**
 * Every differentiable fused op against its float64 definition, and its gradient against central differences of that
 * definition, on each engine.
 */
import { PhiloxStream } from '@equipoise/core';
import {
  type Array64,
  enginesUnderTest,
  numericGradient,
  requireClose,
  requireNoLeak,
} from '@equipoise/testing';
import * as tf from '@tensorflow/tfjs-core';
import t from 'tap';
import { useEngine } from '../index.js';
import { type FusedCase, SMALL_CASES } from './testing/cases.js';

const widen = (values: Float32Array, shape: number[]): Array64 => ({
  shape,
  data: Float64Array.from(values),
});

/** Forward and gradient of one case on the current engine. */
async function check({ name, shapes, op, reference }: FusedCase): Promise<void> {
  const values = shapes.map((shape, i) =>
    new PhiloxStream(11, i).fillNormal(new Float32Array(tf.util.sizeFromShape(shape))),
  );
  const tensors = values.map((value, i) => tf.tensor(value, shapes[i] as number[]));
  const inputs = values.map((value, i) => widen(value, shapes[i] as number[]));
  const expected = reference(...inputs);
  const y = op(...tensors);
  if (y.shape.join() !== expected.shape.join())
    throw new Error(`${name}: shape [${y.shape}], not [${expected.shape}]`);
  requireClose(name, await y.data(), expected.data, { relativeNorm: 1e-5 });

  const weights = new PhiloxStream(12).fillNormal(new Float32Array(expected.data.length));
  const weighted = (...args: Array64[]): number =>
    reference(...args).data.reduce((sum, value, i) => sum + value * (weights[i] as number), 0);
  const dy = tf.tensor(weights, [...expected.shape]);
  const gradients = tf.grads(op)(tensors, dy);
  for (const [i, gradient] of gradients.entries()) {
    const numeric = numericGradient(weighted, inputs, i);
    requireClose(`${name}: gradient ${i}`, await gradient.data(), numeric, {
      relativeNorm: 1e-5,
      absolute: 1e-5,
    });
  }
  // One input at a time: the gradients of the others are never asked for.
  for (const [i, gradient] of gradients.entries()) {
    const alone = tf.grad((x) => op(...tensors.map((tensor, j) => (j === i ? x : tensor))))(
      tensors[i] as tf.Tensor,
      dy,
    );
    requireClose(`${name}: gradient ${i} alone`, await alone.data(), await gradient.data(), { absolute: 0 });
    alone.dispose();
  }
  tf.dispose([tensors, y, dy, gradients]);
}

for (const engine of enginesUnderTest()) {
  t.test(engine, async (t) => {
    await useEngine(engine);
    for (const testCase of SMALL_CASES) {
      await t.resolves(check(testCase), testCase.name);
    }
    await requireNoLeak('gradients', () => check(SMALL_CASES[SMALL_CASES.length - 1] as FusedCase));
  });
}
