import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import t from 'tap';
import { loadAddon } from './index.js';

const native = loadAddon('cpu');
const f32 = (values: number[], shape = [values.length]) =>
  native.upload(Float32Array.from(values), 'f32', shape, 'f32', false);

t.test('upload, compute and read', async (t) => {
  const x = f32([-2, 0.5, Number.NaN, 9]);
  const y = native.ops.clip(x, -1, 1);
  const values = [...(await native.read(y))];
  t.same(values.slice(0, 2), [-1, 0.5]);
  t.ok(Number.isNaN(values[2]));
  t.equal(values[3], 1);
  t.same([...native.readSync(native.reshape(y, [2, 2]))].slice(0, 2), [-1, 0.5]);
});

t.test('bf16 storage rounds to nearest even, f16 widens exactly', async (t) => {
  const h = native.upload(Float32Array.of(1 + 2 ** -8, 1 + 3 * 2 ** -8, -3.5), 'f32', [3], 'bf16', false);
  t.same([...native.readSync(h)], [1, 1 + 2 ** -6, -3.5]);
  const half = native.upload(Uint16Array.of(0x3c00, 0x0001, 0x8000, 0x7c00), 'f16', [4], 'f32', true);
  t.same([...native.readSync(half)], [1, 2 ** -24, -0, Number.POSITIVE_INFINITY]);
  t.equal(native.info(half).frozen, true);
});

t.test('an upload into reused memory waits for kernels that still read it', async (t) => {
  const n = 1 << 20;
  const reads: Promise<Float32Array | Int32Array | Uint8Array>[] = [];
  for (let i = 0; i < 20; i++) {
    const x = native.upload(new Float32Array(n).fill(i), 'f32', [n], 'f32', false);
    const y = native.ops.clip(x, 0, 100);
    native.release(x);
    reads.push(native.read(y));
    native.release(y);
  }
  const results = await Promise.all(reads);
  t.ok(results.every((r, i) => r.every((v) => v === i)));
});

t.test('a training step finds the memory of the step before it again', (t) => {
  const size = (32 << 20) / 4;
  const step = () => {
    const activations = Array.from({ length: 12 }, () => native.ops.fill('f32', [size], 0));
    for (const activation of activations) native.release(activation);
  };
  step();
  const before = native.memory();
  step();
  const after = native.memory();
  t.equal(after.allocations - before.allocations, 12);
  t.equal(after.cacheHits - before.cacheHits, 12);
  t.equal(after.peak, before.peak);
  t.ok(after.peak >= 12 * size * 4, 'peak counts live memory');
  t.end();
});

t.test('wrong arguments are TypeErrors and RangeErrors that name op and argument', (t) => {
  const x = f32([1]);
  const bad = (fn: () => unknown, type: typeof Error, message: RegExp) => {
    try {
      fn();
      t.fail('did not throw');
    } catch (error) {
      t.type(error, type);
      t.match((error as Error).message, message);
    }
  };
  bad(() => native.ops.clip({} as never, 0, 1), TypeError, /clip: x must be a tensor handle/);
  bad(() => native.ops.clip(null as never, 0, 1), TypeError, /clip: x must be a tensor handle/);
  bad(() => native.ops.clip(x, 'a' as never, 1), TypeError, /clip: low must be a number, got a string/);
  bad(() => native.ops.clip(x, 2, 1), RangeError, /low 2 is above high 1/);
  bad(
    () => native.upload(new Float32Array(3), 'f32', [2], 'f32', false),
    RangeError,
    /has 8 bytes, the values have 12/,
  );
  bad(
    () => native.upload(new Float32Array(3), 'f32', [2 ** 40, 2 ** 40], 'f32', false),
    RangeError,
    /2\^40 elements/,
  );
  bad(() => native.reshape(x, [2]), RangeError, /has 1 elements, \[2\] has 2/);
  native.release(x);
  bad(() => native.readSync(x), TypeError, /readSync: tensor has been disposed/);
  t.end();
});

t.test('the memory limit is a catchable RangeError, and memory comes back', (t) => {
  const before = native.memory();
  native.setMemoryLimit(before.inUse + (1 << 20));
  t.throws(() => native.upload(new Float32Array(1 << 20), 'f32', [1 << 20], 'f32', false), {
    name: 'RangeError',
    message: /exceeds the memory limit/,
  });
  native.setMemoryLimit(before.limit);
  const x = f32([1, 2, 3]);
  native.release(x);
  t.equal(native.memory().inUse, before.inUse);
  t.end();
});

t.test('profiling records op, shapes, bytes and times only while on', (t) => {
  const x = f32([1, 2, 3, 4], [2, 2]);
  native.ops.clip(x, 0, 1);
  native.synchronize();
  t.same(native.takeProfile(), []);
  native.setProfiling(true);
  native.ops.clip(x, 0, 1);
  native.synchronize();
  native.setProfiling(false);
  const [range] = native.takeProfile();
  t.match(range, { op: 'ClipByValue', shapes: '[2,2]', flops: 8, bytes: 32 });
  t.ok(range && range.endMs >= range.startMs);
  t.end();
});

t.test('worker threads have devices of their own, and a shut-down device refuses calls', async (t) => {
  const source = `
    const { parentPort } = require('node:worker_threads');
    const native = require(${JSON.stringify((await import('./load.js')).addonCandidates('cpu').at(-1))});
    const x = native.upload(Float32Array.of(5), 'f32', [1], 'f32', false);
    const value = native.readSync(native.ops.clip(x, 0, 2))[0];
    native.shutdown();
    let message = '';
    try { native.memory(); } catch (error) { message = error.message; }
    parentPort.postMessage({ value, message });`;
  const results = await Promise.all(
    [0, 1].map(
      () =>
        new Promise((resolve, reject) =>
          new Worker(source, { eval: true }).on('message', resolve).on('error', reject),
        ),
    ),
  );
  t.same(results, Array(2).fill({ value: 2, message: 'memory: the device has been shut down' }));
});

t.test('an addon that only workers load outlives them', async (t) => {
  const { spawnSync } = await import('node:child_process');
  const { copyFileSync } = await import('node:fs');
  const addon = (await import('./load.js')).addonCandidates('cpu').at(-1) as string;
  // Node unloads an addon with the last worker that loaded it. The loader keeps the first of all that share C++'s unique
  // symbols, so the main thread loads another one, as a program with two devices does.
  const other = join(t.testdir(), 'other.node');
  copyFileSync(addon, other);
  const compute = (file: string): string => `
    const native = require(${JSON.stringify(file)});
    const x = native.upload(new Float32Array(1e6), 'f32', [1e6], 'f32', false);
    native.readSync(native.ops.clip(x, 0, 2));`;
  const program = `
    const { Worker } = require('node:worker_threads');
    const worker = ${JSON.stringify(compute(addon))};
    const run = () => new Promise((resolve) => new Worker(worker, { eval: true }).on('exit', resolve));
    (async () => {
      ${compute(other)}
      for (let i = 0; i < 12; i++) await Promise.all([run(), run()]);
      console.log('done');
    })();`;
  const child = spawnSync(process.execPath, ['-e', program], { encoding: 'utf8' });
  t.match({ status: child.status, stdout: child.stdout }, { status: 0, stdout: 'done\n' }, child.stderr);
});

t.test('handles are finalised by the garbage collector', async (t) => {
  const { setFlagsFromString } = await import('node:v8');
  const { runInNewContext } = await import('node:vm');
  setFlagsFromString('--expose-gc');
  const gc = runInNewContext('gc') as () => void;
  const before = native.memory().inUse;
  (() => {
    for (let i = 0; i < 50; i++) f32(new Array(1000).fill(i));
  })();
  for (let i = 0; i < 20 && native.memory().inUse > before; i++) {
    gc();
    await new Promise((resolve) => setImmediate(resolve));
  }
  t.ok(native.memory().inUse <= before);
});
