import * as tf from '@tensorflow/tfjs-core';
import t from 'tap';
import { currentDevice, type EquipoiseBackend, uploadWeight, useEngine } from './index.js';

await useEngine('equipoise-cpu');
const device = currentDevice() as EquipoiseBackend;

t.test('tensors go to the device and come back', async (t) => {
  const x = tf.tensor([-1, 0.5, 3], [3]);
  const y = tf.clipByValue(x, 0, 1);
  t.same([...(await y.data())], [0, 0.5, 1]);
  t.same([...tf.reshape(y, [1, 3]).dataSync()], [0, 0.5, 1]);
});

t.test('a read survives the dispose that follows it', async (t) => {
  const x = tf.clipByValue(tf.tensor(new Float32Array(100_000).fill(2)), 0, 1);
  const pending = x.data();
  x.dispose();
  t.ok((await pending).every((v) => v === 1));
});

t.test('device bytes and tensor count return to where they were', async (t) => {
  const before = { ...tf.memory() } as ReturnType<EquipoiseBackend['memory']> & tf.MemoryInfo;
  for (let i = 0; i < 1000; i++) {
    tf.tidy(() => {
      tf.clipByValue(tf.tensor([i, 2, 3]), 0, 1);
    });
  }
  await device.flush();
  const after = tf.memory() as typeof before;
  t.equal(after.numTensors, before.numTensors);
  t.equal(after.inUse, before.inUse);
});

t.test('frozen weights keep their storage and read back as float32', async (t) => {
  const bf16 = uploadWeight(new Uint8Array(Uint16Array.of(0x3f80, 0xc020).buffer), [2], 'BF16', {
    storage: 'bf16',
  });
  t.equal(device.native.info(device.handle(bf16, 'test')).storage, 'bf16');
  t.same([...(await bf16.data())], [1, -2.5]);
  const filter = new Uint8Array(Float32Array.from({ length: 24 }, (_, i) => i).buffer);
  const moved = uploadWeight(filter, [4, 3, 1, 2], 'F32', { storage: 'bf16', layout: 'oihw' });
  t.same(moved.shape, [1, 2, 3, 4]);
  t.match(device.native.info(device.handle(moved, 'test')), { storage: 'bf16', frozen: true });
  t.same([...(await moved.data())].slice(0, 8), [0, 6, 12, 18, 2, 8, 14, 20]);
  t.throws(() => uploadWeight(new Uint8Array(3), [2], 'F16'), {
    name: 'RangeError',
    message: /expected 4 for F16 \[2\], got 3/,
  });
});

t.test('an engine that is not there says how to get it', async (t) => {
  await t.rejects(useEngine('nonsense' as never), { message: /expected equipoise-cpu/ });
  await t.rejects(useEngine('tensorflow'), { message: /npm install @tensorflow\/tfjs-node/ });
  t.equal(tf.getBackend(), 'equipoise-cpu');
});
