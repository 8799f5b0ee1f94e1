import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import { addonCandidates } from '@equipoise/native';
import t from 'tap';

const addon = addonCandidates('cpu').find((file) => fs.existsSync(file)) as string;

interface Result {
  digest: string;
  /** Some of the values. */
  sample: number[];
}

/** Runs products and convolutions in a process of its own and prints a digest and a sample of every result. */
const program = `
  const { createHash } = require('node:crypto');
  const native = require(${JSON.stringify(addon)});
  const digest = (h) => {
    const values = native.readSync(h);
    const sample = Array.from({ length: 200 }, (_, i) => values[Math.floor(i * values.length / 200)]);
    return { digest: createHash('sha256').update(Buffer.from(values.buffer)).digest('hex'), sample };
  };
  const tensor = (shape, storage, seed) => {
    const values = new Float32Array(shape.reduce((a, b) => a * b, 1));
    for (let i = 0, state = seed; i < values.length; i++) {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      values[i] = state / 2 ** 31 - 1;
    }
    return native.upload(values, 'f32', shape, storage, false);
  };
  const out = {};
  for (const storage of ['f32', 'bf16']) {
    for (const [m, n, k] of [[1000, 130, 300], [70, 1000, 600], [5, 33, 4000], [96, 80, 9000]]) {
      for (const [ta, tb] of [[false, false], [true, false], [false, true]]) {
        const a = tensor(ta ? [k, m] : [m, k], storage, 1), b = tensor(tb ? [n, k] : [k, n], storage, 2);
        out[[storage, m, n, k, ta, tb]] = digest(native.ops.matMul(a, b, ta, tb, true));
      }
    }
    out[[storage, 'batch']] = digest(native.ops.matMul(tensor([9, 40, 70], storage, 3), tensor([9, 70, 50], storage, 4), false, false, true));
    const window = [2, 1, 1, 1, 1, 1, 10, 20], image = [12, 20, 20, 24], filter = [3, 3, 24, 50];
    const x = tensor(image, storage, 5), f = tensor(filter, storage, 6), dy = tensor([12, 10, 20, 50], storage, 7);
    out[[storage, 'conv']] = digest(native.ops.conv2d(x, f, window, null, 0, 0, null, false, null));
    out[[storage, 'dx']] = digest(native.ops.conv2dGradInput(dy, f, image, window));
    out[[storage, 'df']] = digest(native.ops.conv2dGradFilter(x, dy, filter, window));
  }
  console.log(JSON.stringify(out));
`;

const run = (env: Record<string, string>): Record<string, Result> =>
  JSON.parse(
    execFileSync(process.execPath, ['-e', program], { env: { ...process.env, ...env }, encoding: 'utf8' }),
  ) as Record<string, Result>;

t.test('results are bit-identical for any number of threads', (t) => {
  const one = run({ EQUIPOISE_THREADS: '1' });
  t.equal(Object.keys(one).length, 32);
  for (const threads of ['2', '5']) t.same(run({ EQUIPOISE_THREADS: threads }), one);
  t.end();
});

t.test('every instruction set of this processor agrees but for rounding', (t) => {
  const reference = run({ EQUIPOISE_ISA: 'portable' });
  for (const isa of ['avx2', 'avx512', 'avx512bf16', 'amx']) {
    const results = run({ EQUIPOISE_ISA: isa });
    t.same(Object.keys(results), Object.keys(reference));
    for (const [name, { sample }] of Object.entries(results)) {
      const expected = reference[name]?.sample as number[];
      const size = Math.hypot(...expected);
      const error = Math.hypot(...sample.map((v, i) => v - (expected[i] as number)));
      // Stored bf16 rounds to 8 bits, and sums that differ in their last place may round apart.
      const limit = name.startsWith('bf16') ? 4e-3 : 1e-5;
      t.ok(size > 0 && error <= limit * size, `${isa}: ${name}: error ${error / size}`);
    }
  }
  t.end();
});
