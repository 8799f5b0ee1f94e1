/** The shift term against loops in float64, and its gradient. */
import { useEngine } from '@equipoise/backend';
import { PhiloxStream } from '@equipoise/core';
import { type Array64, enginesUnderTest, numericGradient, requireClose } from '@equipoise/testing';
import * as tf from '@tensorflow/tfjs-core';
import t from 'tap';
import { imageShifts, shiftShortfall } from './strength.js';

const CATEGORIES = [2, 3, 2];
const DEPTH = 5;
const STRENGTH = 2.2;

function shortfall64(text: Array64, shifts: Float32Array, attribute: number): number {
  const [k = 0, after] = [CATEGORIES[attribute], CATEGORIES.slice(attribute + 1).reduce((a, b) => a * b, 1)];
  const unit = (n: number): number[] => {
    const row = [...text.data.slice(n * DEPTH, (n + 1) * DEPTH)];
    const length = Math.hypot(...row);
    return row.map((value) => value / length);
  };
  const rows = Array.from({ length: text.shape[0] as number }, (_, n) => n);
  const contexts = rows.filter((n) => Math.floor(n / after) % k === 0);
  let sum = 0;
  for (const base of contexts) {
    let pair = 0;
    for (let i = 0; i < k; i++)
      for (let j = i + 1; j < k; j++) {
        const other = unit(base + j * after);
        const length = Math.hypot(...unit(base + i * after).map((value, d) => value - (other[d] as number)));
        const shift = shifts[pair++] as number;
        if (shift > 0) sum += Math.max(0, STRENGTH - length / shift) / contexts.length / (k - 1);
      }
  }
  return sum;
}

const normal = (stream: number, shape: number[]): Array64 => {
  const values = new PhiloxStream(9, stream).fillNormal(new Float32Array(tf.util.sizeFromShape(shape)));
  return { shape, data: Float64Array.from(values) };
};

const CASES = [
  { name: 'the first of three', attribute: 0, shifts: [0.9] },
  { name: 'the middle one, with open and closed pairs', attribute: 1, shifts: [0.9, 0.2, 0.7] },
  { name: 'a pair whose images are the same', attribute: 1, shifts: [0.9, 0, 0.7] },
  { name: 'the last one', attribute: 2, shifts: [0.8] },
];

for (const engine of enginesUnderTest()) {
  t.test(engine, async (t) => {
    await useEngine(engine);
    const text = normal(0, [12, DEPTH]);
    const given = tf.tensor2d(Float32Array.from(text.data), [12, DEPTH]);
    for (const { name, attribute, shifts } of CASES) {
      const images = Float32Array.from(shifts);
      const term = (x: tf.Tensor): tf.Scalar =>
        shiftShortfall(x as tf.Tensor2D, images, CATEGORIES, attribute, STRENGTH);
      const expected = shortfall64(text, images, attribute);
      t.ok(expected > 0.1, `${name}: something is lacking`);
      const value = term(given);
      requireClose(name, await value.data(), [expected], { absolute: 1e-5 });
      const gradient = tf.grad(term)(given);
      const numeric = numericGradient((moved) => shortfall64(moved, images, attribute), [text], 0);
      requireClose(`${name}: gradient`, await gradient.data(), numeric, { absolute: 1e-5 });
      tf.dispose([value, gradient]);
    }
    // Equal texts, as all are before the first update: everything is lacking, and the gradient is no NaN.
    const equal = tf.tile(tf.slice(given, [0, 0], [1, DEPTH]), [12, 1]);
    const flat = tf.grad((x) => shiftShortfall(x as tf.Tensor2D, Float32Array.of(0.9), CATEGORIES, 0, 2))(
      equal,
    );
    t.same([...(await flat.data())], new Array(12 * DEPTH).fill(0));
    tf.dispose([given, equal, flat]);
  });
}

t.test('shifts of images are distances of category means', (t) => {
  const features = {
    depth: 2,
    labels: Int32Array.of(0, 0, 1, 2),
    features: Float32Array.of(1, 0, 0, 1, 0.5, 0.5, 0.5, -0.5),
  };
  t.same([...imageShifts(features, 3)], [0, 1, 1]);
  t.end();
});
