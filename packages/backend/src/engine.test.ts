import fs from 'node:fs';
import os from 'node:os';
import * as tf from '@tensorflow/tfjs-core';
import t from 'tap';
import { adamW, currentDevice, type EquipoiseBackend, geglu, layerNorm, linear, useEngine } from './index.js';

await useEngine('equipoise-cpu');
const device = currentDevice() as EquipoiseBackend;

const TICK_MS = 10;

/** Milliseconds that this thread was ready and waited for a processor so far; 0 where the system does not tell. */
function waitedMs(): number {
  try {
    return Number(fs.readFileSync('/proc/self/schedstat', 'utf8').split(' ')[1]) / 1e6;
  } catch {
    return 0;
  }
}

interface Lateness {
  /** Worst lateness of the timer in milliseconds. */
  readonly worst: number;
  /** The same without the time that the thread waited for a processor. */
  readonly worstOwn: number;
  readonly ticks: number;
  readonly busy: number;
}

/** Queues about `seconds` of kernels and watches a 10 ms timer until they are done. */
async function watchTimer(seconds: number): Promise<Lateness> {
  const a = tf.ones<tf.Rank.R2>([768, 768]);
  const once = (): void => void tf.tidy(() => void tf.matMul(a, a));
  once();
  await device.flush();
  const probe = performance.now();
  for (let i = 0; i < 5; i++) once();
  await device.flush();
  const repeats = Math.ceil((seconds * 1e3) / ((performance.now() - probe) / 5));

  let ticks = 0;
  let worst = 0;
  let worstOwn = 0;
  let due = performance.now() + TICK_MS;
  let waited = waitedMs();
  const timer = setInterval(() => {
    const now = performance.now();
    const nowWaited = waitedMs();
    worst = Math.max(worst, now - due);
    worstOwn = Math.max(worstOwn, now - due - (nowWaited - waited));
    due = now + TICK_MS;
    waited = nowWaited;
    ticks++;
  }, TICK_MS);
  const start = performance.now();
  // Enqueued in slices, as a model's layers are: each call checks shapes, enqueues and returns.
  // More is queued where the probe was slow, so that the kernels run at least as long as asked for.
  while (performance.now() - start < seconds * 1e3) {
    for (let i = 0; i < repeats; i++) {
      once();
      if (i % 50 === 49) await new Promise((resolve) => setImmediate(resolve));
    }
    await device.flush();
  }
  clearInterval(timer);
  a.dispose();
  return { worst, worstOwn, ticks, busy: performance.now() - start };
}

t.test('a 10 ms timer is at most 50 ms late while kernels run for two seconds', async (t) => {
  // Where more wants to run than there are processors, any thread may be kept waiting, and that is not the queue's
  // doing: then the time in the system's run queue does not count. Otherwise it does.
  const crowded = (os.loadavg()[0] as number) > os.availableParallelism();
  const attempts: number[] = [];
  for (let i = 0; i < 3; i++) {
    const { worst, worstOwn, ticks, busy } = await watchTimer(2);
    t.ok(busy >= 2000, `kernels ran for ${busy.toFixed(0)} ms`);
    t.ok(ticks > busy / TICK_MS / 20, `${ticks} ticks`);
    t.comment(`worst ${worst.toFixed(1)} ms, ${worstOwn.toFixed(1)} ms of it not in the run queue`);
    attempts.push(crowded ? worstOwn : worst);
    if ((attempts.at(-1) as number) <= 50) break;
  }
  t.ok(
    Math.min(...attempts) <= 50,
    `worst lateness in ms: ${attempts.map((ms) => ms.toFixed(1)).join(', ')}`,
  );
});

t.test('10,000 training steps leave device bytes and tensor count where they started', async (t) => {
  const [rows, width, hidden] = [8, 16, 24];
  const parameter = (shape: number[], scale: number): tf.Variable =>
    tf.tidy(() => tf.variable(tf.mul(tf.randomNormal(shape, 0, 1, 'float32', 3), scale)));
  const parameters = [
    parameter([2 * hidden, width], 0.2),
    parameter([width, hidden], 0.2),
    parameter([width], 1),
    parameter([width], 0),
  ];
  // In a tidy: a tensor that shares its data with a variable keeps the optimizer from updating in place.
  const zeros = (p: tf.Tensor): tf.Variable => tf.tidy(() => tf.variable(tf.zerosLike(p)));
  const moments = parameters.flatMap((p) => [zeros(p), zeros(p)]);
  const x = tf.randomNormal([rows, width], 0, 1, 'float32', 1);
  const target = tf.randomNormal([rows, width], 0, 1, 'float32', 2);
  const loss = (w1: tf.Tensor, w2: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor): tf.Scalar => {
    const h = layerNorm(x, gamma as tf.Tensor1D, beta as tf.Tensor1D, { epsilon: 1e-5 });
    const y = linear(geglu(linear(h, w1, null)), w2, null);
    return tf.mean(tf.squaredDifference(y, target)) as tf.Scalar;
  };
  const step = (number: number): void =>
    void tf.tidy(() => {
      const gradients = tf.grads(loss as (...xs: tf.Tensor[]) => tf.Tensor)(parameters);
      const updates = parameters.map((p, i) => ({
        parameter: p,
        gradient: gradients[i] as tf.Tensor,
        m: moments[2 * i] as tf.Variable,
        v: moments[2 * i + 1] as tf.Variable,
      }));
      adamW(updates, { step: number, learningRate: 1e-2, maxNorm: 1 });
    });
  const read = (): number =>
    tf.tidy(
      () =>
        loss(
          ...(parameters as unknown as [tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]),
        ).dataSync()[0] as number,
    );

  const first = read();
  step(1);
  await device.flush();
  const before = { ...tf.memory(), ...device.native.memory() };
  for (let i = 2; i <= 10_000; i++) {
    step(i);
    // What a training loop does now and then: it lets the queue drain and JavaScript breathe.
    if (i % 500 === 0) await device.flush();
  }
  await device.flush();
  const after = { ...tf.memory(), ...device.native.memory() };
  t.equal(after.numTensors, before.numTensors, 'tensors');
  t.equal(after.numDataBuffers, before.numDataBuffers, 'data buffers');
  t.equal(after.inUse, before.inUse, 'device bytes');
  t.equal(after.blocks, before.blocks, 'device blocks');
  t.ok(read() < first / 2, 'and they trained');
  tf.dispose([...parameters, ...moments, x, target]);
});
