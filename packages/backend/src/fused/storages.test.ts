/**
 * The fused ops in every mixture of storages and at every kind of size that their kernels tell apart (whole vectors or
 * not, one block or several, in shared memory or not), against the portable compositions on the same rounded inputs.
 */
import { PhiloxStream } from '@equipoise/core';
import { ACTIVATIONS64, requireClose, testEngine } from '@equipoise/testing';
import * as tf from '@tensorflow/tfjs-core';
import t from 'tap';
import { currentDevice } from '../backend.js';
import { uploadWeight, useEngine } from '../index.js';
import * as fused from './index.js';

type Storage = 'f32' | 'bf16';

interface Case {
  name: string;
  /** Shapes of the inputs; those of rank 1 are vectors of parameters and stay in f32. */
  shapes: number[][];
  /** Storages of the inputs, in turn; each entry is one run. */
  storages: Storage[][];
  /** Changes the normally distributed values of an input. */
  edit?(input: number, values: Float32Array): void;
  run(...inputs: tf.Tensor[]): tf.Tensor[];
}

const SAME: Storage[][] = [['f32'], ['bf16']];
const PAIRS: Storage[][] = [
  ['f32', 'f32'],
  ['bf16', 'bf16'],
  ['f32', 'bf16'],
  ['bf16', 'f32'],
];

/** To the nearest bf16, ties to even. */
function toBf16(values: Float32Array): Float32Array {
  const bits = new Uint32Array(values.buffer.slice(0));
  bits.forEach((word, i) => {
    bits[i] = (word + 0x7fff + ((word >>> 16) & 1)) & 0xffff0000;
  });
  return new Float32Array(bits.buffer);
}

function makeInputs({ shapes, edit }: Case, storages: Storage[]): tf.Tensor[] {
  let stored = 0;
  return shapes.map((shape, i) => {
    const values = new PhiloxStream(41, i).fillNormal(new Float32Array(tf.util.sizeFromShape(shape)));
    edit?.(i, values);
    if (shape.length === 1 || storages[stored++ % storages.length] === 'f32') return tf.tensor(values, shape);
    const rounded = toBf16(values);
    return uploadWeight(new Uint8Array(rounded.buffer), shape, 'F32', { storage: 'bf16' });
  });
}

async function evaluate(testCase: Case, storages: Storage[], engine: string): Promise<Float32Array[]> {
  await useEngine(engine as 'cpu');
  const inputs = makeInputs(testCase, storages);
  const outputs = testCase.run(...inputs);
  const values = await Promise.all(outputs.map((output) => output.data() as Promise<Float32Array>));
  tf.dispose([inputs, outputs]);
  return values;
}

async function check(testCase: Case, storages: Storage[]): Promise<void> {
  const expected = await evaluate(testCase, storages, 'cpu');
  const actual = await evaluate(testCase, storages, testEngine());
  // A result is rounded to bf16 once: relative errors up to 2^-9, less in the norm.
  const relativeNorm = storages.includes('bf16') ? 4e-3 : 1e-5;
  expected.forEach((values, i) => {
    requireClose(`${testCase.name} ${storages}: result ${i}`, actual[i] as Float32Array, values, {
      relativeNorm,
    });
  });
}

/** The op's result and gradients; the last input is the gradient of the result. */
const withGradients =
  (op: (...inputs: tf.Tensor[]) => tf.Tensor) =>
  (...inputs: tf.Tensor[]): tf.Tensor[] => {
    const dy = inputs.pop() as tf.Tensor;
    return [op(...inputs), ...tf.grads(op)(inputs, dy)];
  };

function groupNorm(
  shape: number[],
  groups: number,
  activation: 'none' | 'silu',
  storages: Storage[][],
): Case {
  const channels = shape.at(-1) as number;
  const options = { groups, epsilon: 1e-5, activation };
  return {
    name: `groupNorm [${shape}] / ${groups} ${activation}`,
    shapes: [shape, [channels], [channels], shape],
    storages,
    run: withGradients((x, gamma, beta) => {
      return fused.groupNorm(x as tf.Tensor, gamma as tf.Tensor, beta as tf.Tensor, options);
    }),
  };
}

function layerNorm(shape: number[], storages: Storage[][]): Case {
  const channels = shape.at(-1) as number;
  return {
    name: `layerNorm [${shape}]`,
    shapes: [shape, [channels], [channels], shape],
    storages,
    run: withGradients((x, gamma, beta) => {
      return fused.layerNorm(x as tf.Tensor, gamma as tf.Tensor, beta as tf.Tensor, { epsilon: 1e-5 });
    }),
  };
}

const OPS = { silu: fused.silu, gelu: fused.gelu, quickGelu: fused.quickGelu, geglu: fused.geglu };

function elementwise(name: keyof typeof OPS, shape: number[], result: number[]): Case {
  return {
    name: `${name} [${shape}]`,
    shapes: [shape, result],
    storages: PAIRS,
    run: withGradients((x) => OPS[name](x as tf.Tensor)),
  };
}

function miSquaredNorm(shape: number[], storages: Storage[][]): Case {
  return {
    name: `miSquaredNorm [${shape}]`,
    shapes: [shape, shape, [shape[0] as number], [shape[0] as number]],
    storages,
    run: withGradients((a, b, w) => fused.miSquaredNorm(a as tf.Tensor, b as tf.Tensor, w as tf.Tensor1D)),
  };
}

function guidedStep(shape: number[], noisy: boolean, storages: Storage[][]): Case {
  const numbers = { guidance: 7.5, miWeight: 0.25, cx: 1.01, ce: -0.3, ...(noisy && { cn: 0.2 }) };
  return {
    name: `guidedStep [${shape}]${noisy ? ' + noise' : ''}`,
    shapes: noisy ? [shape, shape, shape, shape] : [shape, shape, shape],
    storages,
    run: (epsUncond, epsCond, latents, noise) => {
      const inputs = { epsUncond, epsCond, latents, ...(noise && { noise }) };
      const {
        latents: next,
        eps,
        mi,
      } = fused.guidedStep({ ...inputs, ...numbers } as fused.GuidedStepOptions);
      return [next, eps, mi];
    },
  };
}

/** Magnitudes of 0, and so small that the bias drowns them, beside ordinary ones. */
function dora(m: number, k: number, n: number, rank: number, storages: Storage[][]): Case {
  return {
    name: `doraLinear [${m},${k}] -> ${n} rank ${rank}`,
    shapes: [[m, k], [n, k], [rank, k], [n, rank], [n], [n], [m, n]],
    storages,
    edit: (input, values) => {
      if (input === 4) values.set([0, 1e-6, 3].slice(0, values.length));
    },
    run: withGradients((x, weight, loraA, loraB, magnitude, bias) => {
      const options = { weight, loraA, loraB, magnitude, bias, scaling: 0.5 };
      return fused.doraLinear(x as tf.Tensor, options as fused.DoraLinearOptions);
    }),
  };
}

/** Texts of 2 x k x 3 categories; `equal` are rows with the same text, `equalMeans` two rows of the means. */
function direction(
  k: number,
  depth: number,
  storages: Storage[][],
  equal: number[][],
  equalMeans: boolean,
): Case {
  const copy = (values: Float32Array, to: number, from: number) =>
    values.copyWithin(to * depth, from * depth, (from + 1) * depth);
  return {
    name: `direction loss, ${k} categories of ${depth}, equal ${JSON.stringify(equal)} ${equalMeans}`,
    shapes: [
      [6 * k, depth],
      [1, depth],
      [k, depth],
    ],
    storages,
    edit: (input, values) => {
      if (input === 0) for (const [to, from] of equal) copy(values, to as number, from as number);
      if (input === 2 && equalMeans) copy(values, 1, k - 1);
    },
    run: (text, original, imageMeans) => {
      const constants = {
        original: tf.reshape(original as tf.Tensor, [depth]),
        imageMeans: imageMeans as tf.Tensor,
      };
      const options = { ...constants, categories: [2, k, 3], attribute: 1, consistency: 0.1 };
      const loss = (x: tf.Tensor): tf.Tensor => fused.directionAlignmentLoss({ text: x, ...options }).loss;
      const { parts, pairCosine } = fused.directionAlignmentLoss({ text: text as tf.Tensor, ...options });
      const { value, grad } = tf.valueAndGrad(loss)(text as tf.Tensor);
      return [value, grad, parts, pairCosine];
    },
  };
}

const PAD: fused.Padding = [
  [1, 1],
  [1, 1],
];

/** x and weight in bf16; the residual in either storage. */
const RESIDUALS: Storage[][] = [
  ['bf16', 'bf16', 'bf16', 'bf16'],
  ['bf16', 'bf16', 'f32', 'f32'],
  ['f32', 'bf16', 'bf16', 'f32'],
  ['f32', 'f32', 'bf16', 'f32'],
];

function residualLinear(rows: number[], k: number, n: number): Case {
  return {
    name: `linear [${rows},${k}] -> ${n} + residual`,
    shapes: [[...rows, k], [n, k], [...rows, n], [n], [...rows, n]],
    storages: RESIDUALS,
    run: withGradients((x, weight, residual, bias) =>
      fused.linear(x as tf.Tensor, weight as tf.Tensor, bias as tf.Tensor, 'none', {
        residual: residual as tf.Tensor,
      }),
    ),
  };
}

function residualConv(image: number[], out: number): Case {
  const result = [...image.slice(0, 3), out];
  return {
    name: `conv2d [${image}] -> ${out} + residual`,
    shapes: [image, [3, 3, image[3] as number, out], result, result],
    storages: RESIDUALS,
    run: withGradients((x, filter, residual) =>
      fused.conv2d(x as tf.Tensor, filter as tf.Tensor, null, { pad: PAD, residual: residual as tf.Tensor }),
    ),
  };
}

const CASES: readonly Case[] = [
  residualLinear([40], 33, 70),
  residualLinear([2, 20], 64, 48),
  residualConv([2, 7, 9, 12], 35),
  residualConv([1, 16, 16, 32], 64),
  groupNorm([2, 9, 24], 6, 'silu', PAIRS),
  groupNorm([2, 120, 64], 16, 'none', PAIRS),
  groupNorm([3, 5, 30], 3, 'silu', PAIRS),
  groupNorm([2, 9, 210], 70, 'silu', SAME),
  // Too large for one block: statistics of blocks of rows.
  groupNorm([1, 84, 1024], 2, 'silu', [['f32']]),
  groupNorm([1, 164, 1024], 2, 'none', [['bf16']]),
  groupNorm([1, 60, 2052], 3, 'none', SAME),
  // As devices with clusters cut them: over two blocks, and over four or eight, the last with fewer rows.
  groupNorm([1, 403, 64], 4, 'silu', SAME),
  groupNorm([2, 2001, 48], 2, 'silu', SAME),
  layerNorm([9, 320], PAIRS),
  layerNorm([11, 1280], SAME),
  layerNorm([3, 2048], SAME),
  layerNorm([2, 2504], SAME),
  layerNorm([3, 1301], SAME),
  elementwise('silu', [3, 6007], [3, 6007]),
  elementwise('gelu', [17], [17]),
  elementwise('quickGelu', [4, 512], [4, 512]),
  elementwise('geglu', [5, 48], [5, 24]),
  elementwise('geglu', [300, 14], [300, 7]),
  miSquaredNorm([3, 17], PAIRS),
  miSquaredNorm([2, 33_000], PAIRS),
  miSquaredNorm([9, 17_000], SAME),
  ...[true, false].flatMap((noisy) => [
    guidedStep([3, 17], noisy, PAIRS),
    guidedStep(
      [2, 33_000],
      noisy,
      PAIRS.map(([e, x]) => [e, e, x, x] as Storage[]),
    ),
    guidedStep([9, 17_000], noisy, SAME),
  ]),
  dora(40, 24, 36, 5, PAIRS),
  dora(21, 33, 1300, 4, SAME),
  direction(4, 1536, SAME, [], false),
  direction(4, 40, PAIRS, [[3, 0]], false),
  direction(3, 13, SAME, [], true),
  direction(4, 3000, [['f32']], [[3, 0]], false),
];

for (const testCase of CASES) {
  t.test(testCase.name, async (t) => {
    for (const storages of testCase.storages) await t.resolves(check(testCase, storages), `${storages}`);
  });
}

/** Largest errors, relative to the result and absolute: bf16 rounds by up to 2^-8, and tails of less than 2e-7 may vanish. */
const ERRORS = { f32: [2e-6, 2e-7], bf16: [4.4e-3, 2e-7] } as const;

t.test('activations and derivatives of every number of bf16', async (t) => {
  await useEngine(testEngine() as 'cpu');
  // Without those whose product with 1.702 overflows: products of infinity and 0 are NaN.
  const floats = new Float32Array(Uint32Array.from({ length: 0x10000 }, (_, i) => i << 16).buffer);
  const x = floats.map((v) => (Math.abs(v) > 1e38 ? 0 : v));
  const bytes = new Uint8Array(Uint16Array.from(new Uint32Array(x.buffer), (word) => word >>> 16).buffer);
  for (const [name, op] of [
    ['silu', fused.silu],
    ['gelu', fused.gelu],
    ['quick_gelu', fused.quickGelu],
  ] as const) {
    const f = ACTIVATIONS64[name];
    for (const storage of ['f32', 'bf16'] as const) {
      const input = uploadWeight(bytes, [x.length], 'BF16', { storage });
      const { value, grad } = tf.valueAndGrad((v) => tf.sum(op(v)))(input);
      value.dispose();
      const [y, slope] = await Promise.all([op(input), grad].map((r) => r.data() as Promise<Float32Array>));
      const [relative, absolute] = ERRORS[storage];
      const wrong = [...x.keys()].filter((i) => {
        const v = x[i] as number;
        const exact = Math.abs(v) > 100 ? Math.max(v, 0) : f(v);
        const error = Math.abs((y?.[i] as number) - exact);
        if (Number.isNaN(v)) return !Number.isNaN(y?.[i]) || !Number.isNaN(slope?.[i]);
        return !(error <= relative * Math.abs(exact) + absolute);
      });
      t.same(wrong.map((i) => [x[i], y?.[i]]).slice(0, 8), [], `${name}, ${storage}`);
      // The derivative far out, where only the limits are left.
      const far = [...x.keys()].filter((i) => Math.abs(x[i] as number) > 100);
      const bent = far.filter(
        (i) => Math.abs((slope?.[i] as number) - ((x[i] as number) > 0 ? 1 : 0)) > 1e-6,
      );
      t.same(bent.map((i) => [x[i], slope?.[i]]).slice(0, 8), [], `derivative of ${name}, ${storage}`);
      tf.dispose([input, grad]);
    }
  }
});

t.test('a product is bf16 where a factor is, unless it is wide or its residual is not', async (t) => {
  await useEngine(testEngine() as 'cpu');
  const device = currentDevice();
  if (device === undefined) return t.fail('no native device');
  const tensor = (shape: number[], stream: number, storage: Storage): tf.Tensor => {
    const values = new PhiloxStream(47, stream).fillNormal(new Float32Array(tf.util.sizeFromShape(shape)));
    return uploadWeight(new Uint8Array(toBf16(values).buffer), shape, 'F32', { storage });
  };
  const [x, weight] = [tensor([1, 6, 6, 16], 0, 'bf16'), tensor([24, 16], 1, 'bf16')];
  const filter = tensor([3, 3, 16, 24], 2, 'bf16');
  const products = {
    linear: (options: fused.ProductOptions) => fused.linear(x, weight, null, 'none', options),
    conv2d: (options: fused.ProductOptions) => fused.conv2d(x, filter, null, { pad: PAD, ...options }),
  };
  for (const [name, product] of Object.entries(products)) {
    const stored = (y: tf.Tensor): string => device.native.info(device.handle(y, name)).storage;
    const [narrow, wide] = [product({}), product({ wide: true })];
    t.equal(stored(narrow), 'bf16', `${name}: both factors in bf16`);
    t.equal(stored(wide), 'f32', `${name}: wide`);
    const exact = await wide.data<'float32'>();
    t.same(await narrow.data(), toBf16(Float32Array.from(exact)), `${name}: the wide sums, rounded`);
    for (const storage of ['f32', 'bf16'] as const) {
      const residual = tensor([1, 6, 6, 24], 3, storage);
      const y = product({ residual });
      t.equal(stored(y), storage, `${name}: a residual in ${storage}`);
      const addend = await residual.data<'float32'>();
      const sum = exact.map((value, i) => value + (addend[i] as number));
      t.same(await y.data(), storage === 'bf16' ? toBf16(sum) : sum, `${name}: rounded once, ${storage}`);
    }
  }
});

t.test('adamW over tensors of several pieces, with gradients in bf16', async (t) => {
  const sizes = [20_000, 3, 0, 8192, 8193];
  const fill = (stream: number, n: number): Float32Array =>
    new PhiloxStream(43, stream).fillNormal(new Float32Array(n));
  const update = async (engine: string): Promise<Float32Array[]> => {
    await useEngine(engine as 'cpu');
    const entries = sizes.map((n, i) => ({
      parameter: tf.variable(tf.tensor1d(fill(4 * i, n))),
      gradient:
        i % 2 === 0 && n > 0
          ? uploadWeight(new Uint8Array(toBf16(fill(4 * i + 1, n)).buffer), [n], 'F32', { storage: 'bf16' })
          : tf.tensor1d(fill(4 * i + 1, n)),
      m: tf.variable(tf.tensor1d(fill(4 * i + 2, n))),
      v: tf.variable(tf.square(tf.tensor1d(fill(4 * i + 3, n)))),
    }));
    const norm = fused.adamW(entries, { step: 7, learningRate: 1e-2, weightDecay: 0.1, maxNorm: 1 });
    const results = [norm, ...entries.flatMap(({ parameter, m, v }) => [parameter, m, v])];
    const values = await Promise.all(results.map((result) => result.data() as Promise<Float32Array>));
    tf.dispose([norm, ...entries.map((entry) => entry.gradient)]);
    for (const { parameter, m, v } of entries) for (const variable of [parameter, m, v]) variable.dispose();
    return values;
  };
  const expected = await update('cpu');
  const actual = await update(testEngine());
  for (const [i, values] of expected.entries())
    t.doesNotThrow(() =>
      requireClose(`result ${i}`, actual[i] as Float32Array, values, { relativeNorm: 1e-6 }),
    );
});
