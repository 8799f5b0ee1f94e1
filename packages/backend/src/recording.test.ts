/** Functions that are recorded once and replayed: results, memory, and what is refused. */
import { enginesUnderTest, requireClose } from '@equipoise/testing';
import * as tf from '@tensorflow/tfjs-core';
import t from 'tap';
import {
  currentDevice,
  linear,
  profile,
  type Recorded,
  record,
  recordOnRepeat,
  silu,
  toStorage,
  useEngine,
} from './index.js';

/** Temporaries of several sizes, a constant from JavaScript, and more than one result. */
const network = (weight: tf.Tensor) => (x: tf.Tensor) => {
  const h = silu(linear(x, weight, null));
  const scaled = tf.mul(tf.concat([h, tf.square(h)], 1), tf.tensor1d([0.5, 2]).reshape([2, 1]).sum());
  return [tf.sum(scaled, 1), toStorage(scaled, 'bf16')];
};

const values = (seed: number, size: number): Float32Array =>
  Float32Array.from({ length: size }, (_, i) => Math.sin(seed * 97 + i));

for (const engine of enginesUnderTest()) {
  t.test(engine, async (t) => {
    await useEngine(engine);
    const native = currentDevice()?.native;
    const weight = tf.tensor(values(1, 24 * 16), [24, 16]);
    const compute = network(weight);
    const first = tf.tensor(values(2, 5 * 16), [5, 16]);
    const before = { tensors: tf.memory().numTensors, inUse: native?.memory().inUse };

    const recorded: Recorded = record([first], compute);
    t.equal(recorded.replays, engine === 'equipoise-cuda' || engine === 'equipoise-simt');
    for (const seed of [2, 3, 4]) {
      const x = tf.tensor(values(seed, 5 * 16), [5, 16]);
      const expected = tf.tidy(() => compute(x));
      // Other work between the runs takes whatever memory is free.
      const noise = Array.from({ length: 20 }, (_, i) => tf.fill([7 * i + 1, 48], Number.NaN));
      const results = recorded.run(x);
      for (const [i, y] of results.entries()) {
        const wanted = expected[i] as tf.Tensor;
        t.same(y.shape, wanted.shape);
        t.doesNotThrow(() =>
          requireClose(`result ${i} of run ${seed}`, y.dataSync(), wanted.dataSync(), { absolute: 0 }),
        );
      }
      tf.dispose([x, ...expected, ...noise, ...results]);
    }

    if (recorded.replays) {
      t.throws(() => recorded.run(tf.zeros([4, 16])), { message: /input 0: expected float32 \[5,16\]/ });
      t.throws(() => recorded.run(), { message: /expected 1 inputs, got 0/ });
      // Values do not exist while launches are recorded, and the device works on afterwards.
      let calls = 0;
      const reads = (x: tf.Tensor): tf.Tensor[] => {
        const y = tf.add(x, 1);
        if (++calls === 2) y.dataSync();
        return [y];
      };
      t.throws(() => record([first], reads), { message: /read: values exist only when/ });
      t.same([...tf.add(tf.scalar(1), 2).dataSync()], [3]);
      // A weight outlives its tensor for as long as the recording uses it.
      const kept = recorded.run(first)[0] as tf.Tensor;
      const again = kept.dataSync().slice();
      weight.dispose();
      const noise = Array.from({ length: 8 }, () => tf.fill([24, 16], Number.NaN));
      t.same((recorded.run(first)[0] as tf.Tensor).dataSync(), again);
      tf.dispose(noise);
      const held = native?.memory().held ?? 0;
      t.ok(held > 0, 'its temporaries are kept out of reuse');
      recorded.dispose();
      t.equal(native?.memory().held, 0, 'and given back');
      t.throws(() => recorded.run(first));
    } else {
      recorded.dispose();
      t.equal(tf.memory().numTensors, before.tensors);
      t.equal(native?.memory().inUse, before.inUse);
    }
  });
}

for (const engine of enginesUnderTest()) {
  t.test(`${engine}: recorded at the second call`, async (t) => {
    await useEngine(engine);
    const native = currentDevice()?.native;
    const records = engine === 'equipoise-cuda' || engine === 'equipoise-simt';
    const weight = tf.tensor(values(1, 24 * 16), [24, 16]);
    const before = tf.memory().numTensors;
    const runs = (): { calls: number; replays: boolean } => {
      let calls = 0;
      const recorded = recordOnRepeat((x) => {
        calls++;
        return network(weight)(x as tf.Tensor);
      });
      for (const seed of [2, 3, 4, 5]) {
        const x = tf.tensor(values(seed, 5 * 16), [5, 16]);
        const expected = tf.tidy(() => network(weight)(x));
        const results = recorded.run(x);
        for (const [i, y] of results.entries())
          t.same(y.dataSync(), expected[i]?.dataSync(), `result ${i} of the run with seed ${seed}`);
        tf.dispose([x, ...expected, ...results]);
      }
      const { replays } = recorded;
      recorded.dispose();
      return { calls, replays };
    };
    t.same(runs(), records ? { calls: 2, replays: true } : { calls: 4, replays: false });
    // What is replayed would be missing from a profile.
    if (native !== undefined) t.same((await profile(runs)).result, { calls: 4, replays: false });
    process.env.EQUIPOISE_CUDA_GRAPHS = '0';
    t.same(runs(), { calls: 4, replays: false }, 'off');
    delete process.env.EQUIPOISE_CUDA_GRAPHS;
    t.equal(tf.memory().numTensors, before);
    if (records) t.equal(native?.memory().held, 0);
    // Never run: nothing to free.
    recordOnRepeat(() => []).dispose();
    weight.dispose();
  });
}
