import * as tf from '@tensorflow/tfjs-core';
import t from 'tap';
import {
  attention,
  busyMs,
  type DeviceProfile,
  launchTotals,
  linear,
  ProfileSession,
  profile,
  taskTotals,
  traceLines,
  useEngine,
} from '../index.js';

await useEngine('equipoise-cpu');

/** Two tasks of 10 ms, three launches; the second launch runs across their border. */
const handmade: DeviceProfile = {
  device: { device: 'cpu', model: 'M' },
  startMs: 100,
  endMs: 120,
  launches: {
    kinds: [
      { op: 'A', shapes: '[1]', flops: 2e6, bytes: 10 },
      { op: 'A', shapes: '[2]', flops: 4e6, bytes: 10 },
      { op: 'B', shapes: '[1]', flops: 0, bytes: 3e3 },
    ],
    kind: [0, 1, 2],
    startMs: [101, 108, 115],
    endMs: [103, 112, 116],
  },
  slices: [
    { task: 'load', startMs: 100, endMs: 110, activeMs: 4, units: 1, unit: 'file' },
    { task: 'epoch 1/2', startMs: 110, endMs: 114, activeMs: 1, units: 5, unit: 'batch' },
    { task: 'epoch 2/2', startMs: 114, endMs: 120, activeMs: 2, units: 5, unit: 'batch' },
  ],
  memory: { peakBytes: 9, samples: [{ ms: 105, inUse: 7 }] },
};

t.test('launches have the FLOPs and bytes of their sizes, and follow one another', async (t) => {
  const x = tf.randomNormal([2, 33, 64]);
  const w = tf.randomNormal([48, 64]);
  const { result, profile: taken } = await profile(() =>
    tf.tidy(() => {
      const y = linear(x, w, null);
      return attention(y, y, y, { heads: 4 });
    }),
  );
  t.same(result.shape, [2, 33, 48]);
  const totals = launchTotals(taken.launches, 'op', { flops: 1e9, bandwidth: 1e9 });
  const of = (op: string) => totals.find((item) => item.op === op);
  t.match(of('Linear'), {
    launches: 1,
    flops: 2 * 66 * 64 * 48,
    bytes: 4 * (66 * 64 + 48 * 64 + 66 * 48),
  });
  t.match(of('Attention'), { launches: 1, flops: 4 * 2 * 33 * 33 * 48 });
  const { startMs, endMs } = taken.launches;
  for (const [i, start] of startMs.entries()) {
    t.ok(start >= (i === 0 ? taken.startMs : (endMs[i - 1] as number)), 'after the one before it');
    t.ok((endMs[i] as number) >= start && (endMs[i] as number) <= taken.endMs);
  }
  t.ok(taken.memory.peakBytes >= 4 * 66 * (64 + 48));
  t.match(taken.device, { device: 'cpu' });
  tf.dispose([x, w, result]);
});

t.test('time goes to the task whose units it finished, and all of it somewhere', async (t) => {
  const session = new ProfileSession();
  session.follow();
  const report = (task: string, done: number) => session.progress({ task, done, total: 9, unit: 'step' });
  for (const [task, done] of [
    ['draw', 0],
    ['step', 0],
    ['step', 2],
    ['step', 5],
    ['draw', 1],
    ['step', 0],
    ['step', 3],
    ['draw', 2],
  ] as const)
    report(task, done);
  const taken = session.finish() as DeviceProfile;
  t.same(
    taken.slices.map(({ task, units }) => [task, units]),
    [
      ['start', 0],
      ['draw', 0],
      ['step', 2],
      ['step', 3],
      ['draw', 1],
      ['draw', 0],
      ['step', 3],
      ['draw', 1],
      ['draw', 0],
    ],
  );
  let at = taken.startMs;
  for (const { startMs, endMs } of taken.slices) {
    t.equal(startMs, at);
    at = endMs;
  }
  t.equal(at, taken.endMs);
});

t.test('totals', (t) => {
  const ceilings = { flops: 1e9, bandwidth: 1e6 };
  t.same(launchTotals(handmade.launches, 'op', ceilings), [
    { op: 'A', shapes: '', launches: 2, ms: 6, flops: 6e6, bytes: 20, floorMs: 6 },
    { op: 'B', shapes: '', launches: 1, ms: 1, flops: 0, bytes: 3e3, floorMs: 3 },
  ]);
  t.same(
    launchTotals(handmade.launches, 'shapes', ceilings).map(({ op, shapes, ms }) => [op, shapes, ms]),
    [
      ['A', '[2]', 4],
      ['A', '[1]', 2],
      ['B', '[1]', 1],
    ],
  );
  t.same(taskTotals(handmade), [
    { task: 'load', ms: 10, deviceMs: 4, activeMs: 4, units: 1, unit: 'file' },
    { task: 'epoch', ms: 10, deviceMs: 3, activeMs: 3, units: 10, unit: 'batch' },
  ]);
  t.equal(busyMs(handmade.launches), 7);
  t.end();
});

t.test('a trace has every task and launch where it was', (t) => {
  type Event = { name: string; ph: string; ts: number; dur: number; tid: number; args: object };
  const read = (limit?: number): Event[] =>
    (JSON.parse([...traceLines(handmade, limit)].join('\n')) as { traceEvents: Event[] }).traceEvents;
  const events = read().filter(({ ph }) => ph !== 'M');
  t.same(
    events.map(({ name, ph, ts, dur, tid }) => [name, ph, ts, dur, tid]),
    [
      ['load', 'X', 0, 10_000, 1],
      ['epoch 1/2', 'X', 10_000, 4000, 1],
      ['epoch 2/2', 'X', 14_000, 6000, 1],
      ['device memory', 'C', 5000, undefined, undefined],
      ['A', 'X', 1000, 2000, 2],
      ['A', 'X', 8000, 4000, 2],
      ['B', 'X', 15_000, 1000, 2],
    ],
  );
  t.match(events[4]?.args, { shapes: '[1]', flops: 2e6, 'GFLOP/s': 1 });
  t.equal(read(1).filter(({ tid }) => tid === 2).length, 2, 'the name of the thread and one launch');
  t.end();
});

t.test('tf.profile and tf.time cover the launches of each kernel', async (t) => {
  const x = tf.randomNormal([64, 64]);
  const { result, profile: taken } = await profile(async () => {
    const { kernels } = await tf.profile(() => tf.tidy(() => tf.matMul(tf.square(x), x)));
    const times = await Promise.all(kernels.map(({ kernelTimeMs }) => kernelTimeMs));
    return kernels.map(({ name }, i) => ({ name, ms: times[i] as number }));
  });
  t.same(
    result.map(({ name }) => name),
    ['Square', 'BatchMatMul'],
  );
  const { kinds, kind, startMs, endMs } = taken.launches;
  const spans = kind.map((k, i) => ({
    op: kinds[k]?.op,
    ms: (endMs[i] as number) - (startMs[i] as number),
  }));
  for (const [name, op] of [
    ['Square', 'Square'],
    ['BatchMatMul', 'MatMul'],
  ]) {
    const span = spans.find((item) => item.op === op);
    const timed = result.find((item) => item.name === name);
    t.ok(
      span !== undefined && timed !== undefined && timed.ms >= span.ms,
      `${name}: ${spans.map(({ op }) => op)}`,
    );
  }
  const { kernelMs } = (await tf.time(() => void tf.tidy(() => tf.matMul(x, x)))) as { kernelMs: number };
  t.ok(kernelMs > 0);
  x.dispose();
});

t.test('what cannot be profiled is said', async (t) => {
  const session = new ProfileSession();
  t.throws(() => new ProfileSession(), { message: /another profile is being taken/ });
  session.abandon();
  await t.rejects(
    profile(() => {
      throw new RangeError('mine');
    }),
    { message: 'mine' },
  );
  await useEngine('cpu');
  await t.rejects(
    profile(() => 1),
    { message: /current engine is not equipoise/ },
  );
  const late = new ProfileSession();
  await useEngine('equipoise-cpu');
  tf.tidy(() => void tf.square(tf.ones([3])));
  const taken = late.finish();
  t.ok(
    taken?.launches.kinds.some(({ op }) => op === 'Square'),
    'an engine that becomes current later',
  );
});
