import type { Handle } from '@equipoise/native';
import { bf16Values, sizeOf, testEngine } from '@equipoise/testing';
import * as tf from '@tensorflow/tfjs-core';
import t from 'tap';
import { conv2d, currentDevice, type EquipoiseBackend, linear, uploadWeight, useEngine } from './index.js';

const engine = testEngine();
await useEngine(engine);
const device = currentDevice() as EquipoiseBackend;
const { native } = device;

/** Values that bf16 holds exactly. */
const numbers = (shape: readonly number[], seed: number): Float32Array => bf16Values(sizeOf(shape), seed);

const bytesOf = (values: Float32Array): Uint8Array => new Uint8Array(values.buffer);

function frozen<T extends tf.Tensor>(values: Float32Array, shape: number[], storage: 'f32' | 'bf16'): T {
  return uploadWeight(bytesOf(values), shape, 'F32', { storage }) as T;
}

/** Bytes in use. Everything here is synchronous, so that no other test comes between two readings. */
function inUse(): number {
  native.synchronize();
  return native.memory().inUse;
}

const same = (actual: ArrayLike<number>, expected: Float32Array): boolean =>
  actual.length === expected.length && expected.every((value, i) => Object.is(value, actual[i]));

for (const storage of ['f32', 'bf16'] as const) {
  t.test(`${storage}: a packed weight exists once, and its values come back to the bit`, async (t) => {
    // Panels that are not full, several blocks of depth, and a matrix that fills its panels.
    for (const [n, k] of [
      [50, 37],
      [130, 1111],
      [512, 1024],
    ] as const) {
      const name = `${n} x ${k}`;
      const values = numbers([n, k], n);
      const x = tf.tensor(numbers([9, k], 3), [9, k]) as tf.Tensor2D;
      const weight = frozen<tf.Tensor2D>(values, [n, k], storage);
      const expected = tf.matMul(x, tf.tensor(values, [n, k]), false, true).dataSync();
      const first = linear(x, weight, null).dataSync<'float32'>();
      const close = (actual: ArrayLike<number>): boolean =>
        expected.every((value, i) => Math.abs(value - (actual[i] as number)) < 2e-2 * Math.sqrt(k));
      t.ok(close(first), `${name}: product`);
      t.ok(same(weight.dataSync(), values), `${name}: read`);
      const turned = tf.transpose(tf.tensor(values, [n, k])).dataSync<'float32'>();
      for (let use = 0; use < 10; use++)
        t.ok(same(tf.transpose(weight).dataSync(), turned), `${name}: use ${use}`);
      t.ok(same(linear(x, weight, null).dataSync(), first), `${name}: the same product afterwards`);
      weight.dispose();
    }
  });

  t.test(
    `${storage}: memory of a large weight`,
    { skip: engine !== 'equipoise-cpu' && 'CUDA packs nothing' },
    async (t) => {
      const shape = [1024, 1024];
      const before = inUse();
      const weight = frozen<tf.Tensor2D>(numbers(shape, 7), shape, storage);
      const loaded = inUse() - before;
      const x = tf.tensor(numbers([4, 1024], 1), [4, 1024]) as tf.Tensor2D;
      const run = (): void => tf.dispose(tf.tidy(() => linear(x, weight, null)));
      const base = inUse();
      run();
      t.ok(inUse() - base < 0.3 * loaded, 'packing replaces the values');
      weight.dataSync();
      run();
      t.ok(inUse() - base < 0.3 * loaded, 'one read leaves nothing behind');
      const grad = tf.grad((y: tf.Tensor) => linear(y as tf.Tensor2D, weight, null));
      tf.dispose(grad(x));
      t.ok(inUse() - base < 1.3 * loaded, 'the gradient keeps a second packed form, not the values');
      tf.dispose([weight, x]);
    },
  );

  t.test(`${storage}: a filter, forwards and backwards`, async (t) => {
    const shape: [number, number, number, number] = [3, 3, 40, 50];
    const values = numbers(shape, 5);
    const filter = frozen<tf.Tensor4D>(values, shape, storage);
    const plain = tf.tensor(values, shape) as tf.Tensor4D;
    const x = tf.tensor(numbers([1, 6, 7, 40], 2), [1, 6, 7, 40]) as tf.Tensor4D;
    for (const stride of [1, 2]) {
      const run = (f: tf.Tensor4D) => (y: tf.Tensor) =>
        conv2d(y as tf.Tensor4D, f, null, {
          stride,
          pad: [
            [1, 1],
            [1, 1],
          ],
        });
      const near = (a: tf.Tensor, b: tf.Tensor): boolean => {
        const [p, q] = [a.dataSync(), b.dataSync()];
        const size = Math.max(...q.map(Math.abs));
        return q.every((value, i) => Math.abs(value - (p[i] as number)) <= 2e-2 * size);
      };
      t.ok(near(run(filter)(x), run(plain)(x)), `stride ${stride}`);
      t.ok(near(tf.grad(run(filter))(x), tf.grad(run(plain))(x)), `stride ${stride}: gradient`);
      t.ok(same(filter.dataSync(), values), 'values');
    }
  });
}

t.test('panels that round the values do not replace them', async (t) => {
  const values = numbers([64, 96], 1).map((value) => value + 2 ** -20);
  const weight = frozen<tf.Tensor2D>(values, [64, 96], 'f32');
  const narrow: Handle = native.upload(numbers([8, 96], 2), 'f32', [8, 96], 'bf16', false);
  const y = native.ops.matMul(narrow, device.handle(weight, 'test'), false, true, false);
  native.readSync(y);
  t.same(weight.dataSync(), values);
});

t.test('one weight as both operands of a product', async (t) => {
  const values = numbers([40, 40], 9);
  const plain = tf.tensor(values, [40, 40]) as tf.Tensor2D;
  const weight = frozen<tf.Tensor2D>(values, [40, 40], 'f32');
  const expected = tf.matMul(plain, plain, false, true).dataSync();
  for (let i = 0; i < 3; i++) {
    const actual = tf.matMul(weight, weight, false, true).dataSync();
    t.ok(
      expected.every((value, j) => Math.abs(value - (actual[j] as number)) < 1e-4),
      `call ${i}`,
    );
  }
});

t.test('a view of a packed weight', async (t) => {
  const values = numbers([32, 48], 4);
  const weight = frozen<tf.Tensor2D>(values, [32, 48], 'bf16');
  linear(tf.tensor(numbers([3, 48], 1), [3, 48]) as tf.Tensor2D, weight, null).dataSync();
  t.same(tf.reshape(weight, [48, 32]).dataSync(), values);
  t.same(tf.slice(tf.reshape(weight, [32 * 48]), 100, 9).dataSync(), values.slice(100, 109));
});
