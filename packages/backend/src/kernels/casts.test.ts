import type { Handle, Storage } from '@equipoise/native';
import { testEngine } from '@equipoise/testing';
import * as tf from '@tensorflow/tfjs-core';
import t from 'tap';
import { currentDevice, type EquipoiseBackend, toStorage, useEngine } from '../index.js';
import { bf16, upload } from './testing/inputs.js';

await useEngine(testEngine());
const { native } = currentDevice() as EquipoiseBackend;

t.test('casts', (t) => {
  const floats = [
    1.9,
    -1.9,
    0,
    -0,
    3e9,
    -3e9,
    1e20,
    Number.NaN,
    Number.POSITIVE_INFINITY,
    2147483648,
    -2147483648,
  ];
  const x = upload(floats, [11], 'f32');
  t.same([...native.readSync(native.ops.cast(x, 'i32'))], [...Int32Array.from(Float32Array.from(floats))]);
  t.same(
    [...native.readSync(native.ops.cast(x, 'bool'))],
    floats.map((value) => Number(value !== 0)),
  );
  t.same([...native.readSync(native.ops.cast(native.ops.cast(x, 'bf16'), 'f32'))].slice(0, 2), [
    bf16(1.9),
    bf16(-1.9),
  ]);
  t.same(
    [...native.readSync(native.ops.cast(upload([0, 5, -7, 2 ** 24 + 1], [4], 'i32'), 'f32'))],
    [0, 5, -7, 2 ** 24],
  );
  t.same([...native.readSync(native.ops.cast(upload([1, 0], [2], 'bool'), 'f32'))], [1, 0]);
  t.end();
});

t.test('the storage of a result: bf16 when every float is, where single elements adapt', (t) => {
  const of = (storage: Storage, n: number) => upload(new Array(n).fill(1), [n], storage);
  const storage = (a: Handle, b: Handle) => native.info(native.ops.add(a, b)).storage;
  t.equal(storage(of('bf16', 4), of('bf16', 4)), 'bf16');
  t.equal(storage(of('bf16', 4), of('f32', 1)), 'bf16');
  t.equal(storage(of('f32', 4), of('bf16', 1)), 'f32');
  t.equal(storage(of('bf16', 4), of('f32', 4)), 'f32');
  t.equal(storage(of('bf16', 1), of('f32', 1)), 'f32');
  t.equal(storage(of('i32', 4), of('bool', 4)), 'i32');
  t.end();
});

t.test('toStorage rounds, keeps the gradient, and does nothing where it is so already', (t) => {
  const device = currentDevice() as EquipoiseBackend;
  const x = tf.tensor1d([1 + 2 ** -9, -3]);
  const y = toStorage(x, 'bf16');
  t.equal(native.info(device.handle(y, 'test')).storage, 'bf16');
  t.same([...y.dataSync()], [1, -3]);
  t.equal(toStorage(y, 'bf16').dataId, y.dataId);
  t.same(
    [
      ...tf
        .grad((v) => tf.sum(tf.mul(toStorage(v, 'bf16'), [2, 5])))(x)
        .dataSync(),
    ],
    [2, 5],
  );
  t.throws(() => toStorage(x, 'f16' as never), {
    name: 'RangeError',
    message: /toStorage: storage: expected f32 or bf16/,
  });
  t.throws(() => toStorage(tf.tensor1d([1], 'int32'), 'f32'), {
    name: 'TypeError',
    message: /float32 tensor/,
  });
  t.end();
});
