import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Engine, fusedKernelNames, isPortable, type Precision, useEngine } from '@equipoise/backend';
import { loadAddon } from '@equipoise/native';
import { requireClose, requireFinite } from '@equipoise/testing';
import * as tf from '@tensorflow/tfjs-core';
import t from 'tap';
import { countWork, totalWork } from '../measure/work.js';
import type { KernelFamily, Sizes } from './case.js';
import { kernelFamilies } from './families.js';
import { makeInputs } from './inputs.js';

tf.enableProdMode();
const folder = path.dirname(fileURLToPath(import.meta.url));
const backendSource = path.join(folder, '..', '..', '..', 'packages', 'backend', 'src');

/** Outputs of a case on an engine, and the gradients of their sum of squares where there are any. */
async function evaluate(
  engine: Engine,
  family: KernelFamily,
  sizes: Sizes,
  precision: Precision,
): Promise<Float32Array[]> {
  await useEngine(engine);
  const inputs = makeInputs(family.inputs(sizes), precision);
  const results = tf.tidy(() => {
    const outputs = [family.compute(inputs, sizes)].flat();
    const variables = family.differentiable ?? [];
    if (variables.length === 0) return outputs;
    const loss = (...xs: tf.Tensor[]): tf.Scalar => {
      const replaced = inputs.map((input, i) =>
        variables.includes(i) ? (xs[variables.indexOf(i)] as tf.Tensor) : input,
      );
      return tf.addN([family.compute(replaced, sizes)].flat().map((y) => tf.sum(tf.square(y)))) as tf.Scalar;
    };
    const gradients = tf.grads(loss as (...xs: tf.Tensor[]) => tf.Tensor)(
      variables.map((i) => inputs[i] as tf.Tensor),
    );
    return [...outputs, ...gradients];
  });
  const values = await Promise.all(results.map(async (y) => new Float32Array(await y.data<'float32'>())));
  tf.dispose([...results, ...inputs]);
  return values;
}

t.test('every family agrees with the portable composition, forward and gradient', async (t) => {
  for (const family of kernelFamilies) {
    for (const sizes of family.checks) {
      const expected = await evaluate('cpu', family, sizes, 'f32');
      for (const precision of family.precisions) {
        const actual = await evaluate('equipoise-cpu', family, sizes, precision);
        const name = `${family.name} ${family.label(sizes)} ${precision}`;
        t.equal(actual.length, expected.length, name);
        for (const [i, values] of expected.entries()) {
          requireFinite(name, values);
          const relativeNorm = precision === 'f32' ? (family.tolerance ?? 1e-5) : 3e-2;
          requireClose(`${name}, result ${i}`, actual[i] as Float32Array, values, { relativeNorm });
        }
      }
    }
  }
});

t.test('families and the profile of what they run count FLOPs and bytes alike', async (t) => {
  await useEngine('equipoise-cpu');
  for (const family of kernelFamilies) {
    for (const [sizes, precision] of family.checks.flatMap((s) =>
      family.precisions.map((p) => [s, p] as const),
    )) {
      const inputs = makeInputs(family.inputs(sizes), precision);
      const once = (): void => tf.tidy(() => void family.compute(inputs, sizes));
      once(); // packs weights
      const work = await countWork(once);
      const { flops, bytes } = totalWork(work);
      const name = `${family.name} ${family.label(sizes)} ${precision}`;
      const least = family.bytes(sizes, precision === 'bf16' ? 2 : 4);
      t.ok(flops >= family.flops(sizes) && bytes >= least, `${name}: at least what is needed`);
      if (work.length === 1) {
        if (family.flops(sizes) > 0) t.equal(flops, family.flops(sizes), `${name}: FLOPs`);
        // Attention keeps a number of each row for its gradient.
        const kept = 4 * (sizes.batch ?? 0) * (sizes.heads ?? 0) * (sizes.queries ?? 0);
        t.equal(bytes, least + kept, `${name}: bytes`);
      }
      tf.dispose(inputs);
    }
  }
});

t.test('sizes that are timed have work and bytes', (t) => {
  for (const family of kernelFamilies) {
    t.ok(family.sizes.length > 0, family.name);
    for (const sizes of family.sizes) {
      t.ok(family.bytes(sizes, 4) > 0 && family.flops(sizes) >= 0, `${family.name} ${family.label(sizes)}`);
    }
  }
  const labels = kernelFamilies.flatMap((family) =>
    family.sizes.map((sizes) => `${family.name} ${family.label(sizes)}`),
  );
  t.equal(new Set(labels).size, labels.length, 'labels are unique');
  t.end();
});

t.test('fused kernel, native op, test case and benchmark case agree', async (t) => {
  await useEngine('equipoise-cpu');
  const registered = new Set(tf.getKernelsForBackend('equipoise-cpu').map((kernel) => kernel.kernelName));
  const timed = new Set(kernelFamilies.flatMap((family) => family.kernels));
  for (const name of fusedKernelNames()) {
    t.notOk(isPortable(name), `${name} is native on equipoise-cpu`);
    t.ok(timed.has(name), `${name} is in a benchmark family`);
  }
  for (const name of timed) t.ok(registered.has(name), `${name}, which a family names, is registered`);

  const sources = fs
    .readdirSync(backendSource, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts'));
  const read = (files: string[]): string =>
    files.map((file) => fs.readFileSync(path.join(backendSource, file), 'utf8')).join('\n');
  const tests = read(sources.filter((file) => file.endsWith('.test.ts') || file.endsWith('cases.ts')));
  const code = read(sources.filter((file) => !file.endsWith('.test.ts')));
  // Every op that is built is used by a kernel, by its name in the code or, those of tables, under its own name;
  // ceilings are there to be measured alone.
  const named = (op: string): string => `${op[0]?.toUpperCase()}${op.slice(1)}`;
  const unused = Object.keys(loadAddon('cpu').ops).filter(
    (op) => !op.startsWith('ceiling') && !registered.has(named(op)) && !new RegExp(`\\b${op}\\b`).test(code),
  );
  t.same(unused, [], 'every native op is called by a kernel');
  // Gradient kernels are tested through the op they belong to.
  const publicNames = fusedKernelNames().filter((name) => !/Grad(?:[A-Z]\w*)?$/.test(name));
  const functions: Readonly<Record<string, string>> = {
    Conv2DFused: 'conv2d',
    MISquaredNorm: 'miSquaredNorm',
  };
  const untested = publicNames.filter((name) => {
    const called = functions[name] ?? `${name[0]?.toLowerCase()}${name.slice(1)}`;
    return !new RegExp(`\\b${called}\\b`).test(tests);
  });
  t.same(untested, [], 'every fused kernel has a test case');
});
