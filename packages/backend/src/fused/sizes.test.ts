/**
 * The fused ops at the sizes of real models: the native kernels against their float64 definition and, forward and
 * gradient, against the portable compositions; and with bf16 storage.
 */
import { PhiloxStream } from '@equipoise/core';
import { type Array64, directionLoss64, requireClose, testEngine } from '@equipoise/testing';
import * as tf from '@tensorflow/tfjs-core';
import t from 'tap';
import { useEngine } from '../index.js';
import { uploadWeight } from '../upload-weight.js';
import { directionAlignmentLoss } from './index.js';
import { type FusedCase, LARGE_CASES } from './testing/cases.js';

const fill = (stream: number, shape: readonly number[]): Float32Array =>
  new PhiloxStream(31, stream).fillNormal(new Float32Array(tf.util.sizeFromShape([...shape])));

/** Inputs of order 1; weights scaled by their fan-in, so that outputs are of order 1 too, as in a trained model. */
function makeInput(i: number, shape: number[]): Float32Array {
  const values = fill(i, shape);
  const fanIn = shape.length === 2 ? (shape[1] as number) : tf.util.sizeFromShape(shape.slice(0, -1));
  const isWeight = i > 0 && (shape.length === 2 || shape.length === 4);
  return isWeight ? values.map((value) => value / Math.sqrt(fanIn)) : values;
}

/** Output and gradients of a case on the current engine, for inputs stored as told. */
async function run({ op, shapes }: FusedCase, storage: 'f32' | 'bf16' = 'f32'): Promise<Float32Array[]> {
  const store = (values: Float32Array, shape: number[]): tf.Tensor =>
    storage === 'f32'
      ? tf.tensor(values, shape)
      : uploadWeight(new Uint8Array(values.buffer), shape, 'F32', { storage: 'bf16' });
  // Vectors (norm parameters, biases, magnitudes, weights of samples) are always kept in f32.
  const inputs = shapes.map((shape, i) => {
    const values = makeInput(i, shape);
    return shape.length === 1 ? tf.tensor(values, shape) : store(values, shape);
  });
  const y = op(...inputs);
  const gradients = tf.grads(op)(inputs, tf.tensor(fill(100, y.shape), y.shape));
  const values = await Promise.all([y, ...gradients].map((tensor) => tensor.data() as Promise<Float32Array>));
  tf.dispose([inputs, y, gradients]);
  return values;
}

const compare = (
  name: string,
  actual: Float32Array[],
  expected: ArrayLike<number>[],
  relativeNorm: number,
): void => {
  expected.forEach((values, i) => {
    const label = `${name}: ${i === 0 ? 'output' : `gradient ${i - 1}`}`;
    requireClose(label, actual[i] as Float32Array, values, { relativeNorm });
  });
};

async function check(testCase: FusedCase): Promise<void> {
  await useEngine('cpu');
  const portable = await run(testCase);
  await useEngine(testEngine());
  const native = await run(testCase);
  const inputs = testCase.shapes.map(
    (shape, i): Array64 => ({ shape, data: Float64Array.from(makeInput(i, shape)) }),
  );
  compare(testCase.name, native, [testCase.reference(...inputs).data], 1e-5);
  compare(testCase.name, native, portable, 1e-5);
  compare(`${testCase.name} in bf16`, await run(testCase, 'bf16'), portable, 1e-2);
}

for (const testCase of LARGE_CASES) {
  t.test(testCase.name, async (t) => {
    await t.resolves(check(testCase));
  });
}

for (const [attribute, depth] of [
  [0, 768],
  [1, 129],
  [2, 64],
] as Array<[number, number]>) {
  t.test(`direction loss, 108 x ${depth}, attribute ${attribute}`, async (t) => {
    const categories = [2, 6, 9];
    const k = categories[attribute] as number;
    const shapes = { text: [108, depth], original: [depth], imageMeans: [k, depth] };
    const inputs = Object.fromEntries(
      Object.entries(shapes).map(([name, shape], i) => [
        name,
        { shape, data: Float64Array.from(fill(i, shape)) },
      ]),
    ) as unknown as Record<keyof typeof shapes, Array64>;
    const rest = { categories, attribute, consistency: 0.8 };
    const gradients: Float32Array[] = [];
    for (const engine of ['cpu', testEngine()] as const) {
      await useEngine(engine);
      const [text, original, imageMeans] = Object.values(inputs).map(({ data, shape }) =>
        tf.tensor(Float32Array.from(data), [...shape]),
      ) as [tf.Tensor, tf.Tensor, tf.Tensor];
      const { value, grad } = tf.valueAndGrad(
        (x) => directionAlignmentLoss({ text: x, original, imageMeans, ...rest }).loss,
      )(text);
      requireClose(engine, await value.data(), [directionLoss64({ ...inputs, ...rest }).loss], {
        relativeNorm: 1e-5,
      });
      gradients.push((await grad.data()) as Float32Array);
      tf.dispose([text, original, imageMeans, value, grad]);
    }
    t.doesNotThrow(() =>
      requireClose('gradient', gradients[1] as Float32Array, gradients[0] as Float32Array, {
        relativeNorm: 1e-5,
      }),
    );
  });
}
