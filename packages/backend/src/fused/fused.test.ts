/** The fused ops that are not differentiable, PyTorch fixtures of DoRA and AdamW, and refusals of bad input. */
import { PhiloxStream } from '@equipoise/core';
import { enginesUnderTest, fixturesOf, requireClose, requireNoLeak, testEngine } from '@equipoise/testing';
import * as tf from '@tensorflow/tfjs-core';
import t from 'tap';
import { uploadWeight, useEngine } from '../index.js';
import * as fused from './index.js';

const fixtures = fixturesOf(import.meta.url, '../../fixtures/fused');
const normal = (stream: number, size: number): Float32Array =>
  new PhiloxStream(21, stream).fillNormal(new Float32Array(size));
const NORM = { relativeNorm: 1e-5 };

interface DoraFixture {
  rows: number;
  inputs: number;
  outputs: number;
  rank: number;
  scaling: number;
  x: number[];
  weight: number[];
  bias: number[] | null;
  loraA: number[];
  loraB: number[];
  magnitude: number[] | null;
  upstream: number[];
  y: number[];
  gradX: number[];
  gradA: number[];
  gradB: number[];
  gradMagnitude: number[] | null;
}

async function checkDora(f: DoraFixture): Promise<void> {
  const x = tf.tensor(f.x, [f.rows, f.inputs]);
  const weight = tf.tensor(f.weight, [f.outputs, f.inputs]);
  const bias = f.bias && tf.tensor1d(f.bias);
  const loraA = tf.tensor(f.loraA, [f.rank, f.inputs]);
  const loraB = tf.tensor(f.loraB, [f.outputs, f.rank]);
  const magnitude = f.magnitude && tf.tensor1d(f.magnitude);
  const call = (...args: tf.Tensor[]): tf.Tensor =>
    fused.doraLinear(args[0] as tf.Tensor, {
      weight,
      bias,
      loraA: args[1] as tf.Tensor,
      loraB: args[2] as tf.Tensor,
      magnitude: args[3] ?? null,
      scaling: f.scaling,
    });
  const args: tf.Tensor[] = [x, loraA, loraB, ...(magnitude ? [magnitude] : [])];
  const y = call(...args);
  requireClose('y', await y.data(), f.y, NORM);
  const gradients = tf.grads(call)(args, tf.tensor(f.upstream, [f.rows, f.outputs]));
  const expected = [f.gradX, f.gradA, f.gradB, ...(f.gradMagnitude ? [f.gradMagnitude] : [])];
  for (const [i, gradient] of gradients.entries()) {
    requireClose(`gradient ${i}`, await gradient.data(), expected[i] as number[], NORM);
  }
}

interface AdamWFixture {
  learningRate: number;
  beta1: number;
  beta2: number;
  epsilon: number;
  weightDecay: number;
  maxNorm: number | null;
  shapes: number[][];
  start: number[][];
  steps: Array<{ gradients: number[][]; norm: number; parameters: number[][] }>;
}

async function checkAdamW(f: AdamWFixture): Promise<void> {
  const { learningRate, beta1, beta2, epsilon, weightDecay, maxNorm } = f;
  const variable = (values: number[], i: number): tf.Variable =>
    tf.variable(tf.tensor(values, f.shapes[i] as number[]));
  const start = f.start.map((values, i) => tf.tensor(values, f.shapes[i] as number[]));
  const parameters = start.map((tensor) => tf.variable(tensor));
  const m = f.start.map((values, i) =>
    variable(
      values.map(() => 0),
      i,
    ),
  );
  const v = f.start.map((values, i) =>
    variable(
      values.map(() => 0),
      i,
    ),
  );
  for (const [step, expected] of f.steps.entries()) {
    const entries = parameters.map((parameter, i) => ({
      parameter,
      // Gradients twice as large and halved again: gradientScale comes before the norm.
      gradient: tf.mul(2, tf.tensor(expected.gradients[i] as number[], f.shapes[i] as number[])),
      m: m[i] as tf.Variable,
      v: v[i] as tf.Variable,
    }));
    const options = {
      learningRate,
      beta1,
      beta2,
      epsilon,
      weightDecay,
      gradientScale: 0.5,
      ...(maxNorm && { maxNorm }),
    };
    const norm = fused.adamW(entries, { step: step + 1, ...options });
    requireClose('norm', await norm.data(), [expected.norm], NORM);
    for (const [i, parameter] of parameters.entries()) {
      requireClose(
        `step ${step} parameter ${i}`,
        await parameter.data(),
        expected.parameters[i] as number[],
        NORM,
      );
    }
  }
  // The tensors that the variables were made from share their data and must not have moved.
  for (const [i, tensor] of start.entries()) {
    requireClose(`start ${i}`, await tensor.data(), Float32Array.from(f.start[i] as number[]), {
      absolute: 0,
    });
  }
}

async function checkGuidedStep(shape: number[], noisy: boolean): Promise<void> {
  const size = tf.util.sizeFromShape(shape);
  const [eu, ec, x, z] = [0, 1, 2, 3].map((i) => normal(i, size)) as [
    Float32Array,
    Float32Array,
    Float32Array,
    Float32Array,
  ];
  const [epsUncond, epsCond, latents, noise] = [eu, ec, x, z].map((values) =>
    tf.tensor(values, shape),
  ) as tf.Tensor[];
  const numbers = { guidance: 7.5, miWeight: 3.25, cx: 1.01, ce: -0.3, ...(noisy && { cn: 0.2 }) };
  const result = fused.guidedStep({
    epsUncond: epsUncond as tf.Tensor,
    epsCond: epsCond as tf.Tensor,
    latents: latents as tf.Tensor,
    ...numbers,
    ...(noisy && { noise: noise as tf.Tensor }),
  });
  const eps = Float64Array.from(eu, (value, i) => value + 7.5 * ((ec[i] as number) - value));
  const next = Float64Array.from(
    x,
    (value, i) => 1.01 * value - 0.3 * (eps[i] as number) + (noisy ? 0.2 * (z[i] as number) : 0),
  );
  const mi = new Float64Array(shape[0] as number);
  const per = size / Math.max(1, mi.length);
  eu.forEach((value, i) => {
    const b = Math.floor(i / per);
    mi[b] = (mi[b] as number) + 3.25 * ((ec[i] as number) - value) ** 2;
  });
  requireClose('eps', await result.eps.data(), eps, NORM);
  requireClose('latents', await result.latents.data(), next, NORM);
  requireClose('mi', await result.mi.data(), mi, NORM);
}

async function checkRandom(size: number, offset: number): Promise<void> {
  const options = { seed: 2n ** 63n + 5n, stream: 77n, offset };
  const stream = new PhiloxStream(options.seed, options.stream);
  const uniform = fused.randomUniform([size], options);
  requireClose('uniform', await uniform.data(), stream.fillUniform(new Float32Array(size), offset), {
    absolute: 0,
  });
  const gaussian = fused.randomNormal([size], options);
  requireClose('normal', await gaussian.data(), stream.fillNormal(new Float32Array(size), offset), {
    absolute: 0,
  });
}

/** Runs an asynchronous check and frees what it made. */
async function scoped(work: () => Promise<void>): Promise<void> {
  const engine = tf.engine();
  engine.startScope();
  try {
    await work();
  } finally {
    engine.endScope();
  }
}

for (const engine of enginesUnderTest()) {
  t.test(engine, async (t) => {
    await useEngine(engine);
    for (const f of fixtures.json<DoraFixture[]>('dora.json')) {
      await t.resolves(
        scoped(() => checkDora(f)),
        `PEFT ${f.magnitude ? 'DoRA' : 'LoRA'} ${f.inputs} -> ${f.outputs}`,
      );
    }
    for (const f of fixtures.json<AdamWFixture[]>('adamw.json')) {
      await t.resolves(
        scoped(() => checkAdamW(f)),
        `torch AdamW, maxNorm ${f.maxNorm}, decay ${f.weightDecay}`,
      );
    }
    for (const shape of [[0, 4], [1], [3, 5], [2, 3, 3, 4], [2, 4, 64, 64]]) {
      for (const noisy of [false, true]) {
        await t.resolves(
          scoped(() => checkGuidedStep(shape, noisy)),
          `guidedStep [${shape}]${noisy ? ' + noise' : ''}`,
        );
      }
    }
    for (const [size, offset] of [
      [0, 0],
      [1, 0],
      [7, 3],
      [4096, 1],
      [33, 2 ** 34 + 2],
    ] as Array<[number, number]>) {
      await t.resolves(
        scoped(() => checkRandom(size, offset)),
        `random ${size} at ${offset}`,
      );
    }
    const first = fixtures.json<AdamWFixture[]>('adamw.json')[0] as AdamWFixture;
    await t.resolves(requireNoLeak('guidedStep', () => scoped(() => checkGuidedStep([2, 3], true))));
    await t.resolves(requireNoLeak('random', () => scoped(() => checkRandom(9, 0))));
    await t.resolves(
      requireNoLeak('adamW', async () => {
        const before = new Set(Object.keys(tf.engine().state.registeredVariables));
        await scoped(() => checkAdamW(first));
        for (const [name, variable] of Object.entries(tf.engine().state.registeredVariables)) {
          if (!before.has(name)) variable.dispose();
        }
      }),
    );
  });
}

t.test('adamW trains a frozen bf16 weight in f32 memory of its own', async (t) => {
  await useEngine(testEngine());
  const weight = uploadWeight(new Uint8Array(Uint16Array.of(0x3f80, 0xc000).buffer), [2], 'BF16', {
    storage: 'bf16',
  });
  const [parameter, m, v] = [tf.variable(weight), tf.variable(tf.zeros([2])), tf.variable(tf.zeros([2]))];
  fused.adamW([{ parameter, gradient: tf.tensor1d([1, -1]), m, v }], {
    step: 1,
    learningRate: 1e-4,
    weightDecay: 0,
  });
  // The first step of Adam moves by the learning rate, which bf16 could not show.
  requireClose('parameter', await parameter.data(), [1 - 1e-4, -2 + 1e-4], { absolute: 2e-7 });
  t.same([...(await weight.data())], [1, -2]);
});

t.test('a shared norm gives the same result as its own', async (t) => {
  await useEngine('cpu');
  const [x, weight, loraA, loraB, magnitude] = [[5, 7], [3, 7], [2, 7], [3, 2], [3]].map((shape, i) =>
    tf.tensor(normal(i, tf.util.sizeFromShape(shape)), shape),
  ) as [tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor];
  const options = { weight, loraA, loraB, magnitude, bias: null, scaling: 0.5 };
  const norm = fused.doraNorm(weight, loraA, loraB, 0.5);
  const [own, given] = [fused.doraLinear(x, options), fused.doraLinear(x, { ...options, norm })];
  t.same([...given.dataSync()], [...own.dataSync()]);
});

t.test('bad input is refused by name', async (t) => {
  await useEngine('cpu');
  const x = tf.ones([2, 3, 8]);
  const c = tf.ones([8]);
  const gone = tf.ones([2]);
  gone.dispose();
  const w = {
    weight: tf.ones([4, 8]),
    bias: null,
    loraA: tf.ones([2, 8]),
    loraB: tf.ones([4, 2]),
    magnitude: null,
    scaling: 1,
  };
  const param = { parameter: tf.variable(c), gradient: c, m: tf.variable(c), v: tf.variable(c) };
  const step = { epsUncond: c, epsCond: c, latents: c, guidance: 1, miWeight: 1, cx: 1, ce: 1 };
  const guided = (change: object) => () => fused.guidedStep({ ...step, ...change });
  const refusals: Array<[() => unknown, string, RegExp]> = [
    [() => fused.silu(gone), 'TypeError', /silu: x: expected a live tensor/],
    [() => fused.gelu([1] as never), 'TypeError', /gelu: x: expected a tensor, got \[1\]/],
    [
      () => fused.quickGelu(tf.ones([2], 'int32')),
      'TypeError',
      /quickGelu: x: expected a float32 tensor, got a int32/,
    ],
    [() => fused.geglu(tf.ones([2, 3])), 'RangeError', /geglu: x: expected an even number of channels/],
    [() => fused.attention(x, x, x, { heads: 3 }), 'RangeError', /q: expected channels divisible by 3 heads/],
    [
      () => fused.attention(x, tf.ones([2, 0, 8]), tf.ones([2, 0, 8]), { heads: 2 }),
      'RangeError',
      /k: .*one key/,
    ],
    [
      () => fused.attention(x, tf.ones([1, 3, 8]), x, { heads: 2 }),
      'RangeError',
      /k: expected shape \[2,any,8\]/,
    ],
    [
      () => fused.attention(x, x, tf.ones([2, 2, 8]), { heads: 2 }),
      'RangeError',
      /v: expected shape \[2,3,8\]/,
    ],
    [() => fused.attention(x, x, x, { heads: 2, mask: 1 } as never), 'TypeError', /mask/],
    [() => fused.attention(tf.ones([2, 4, 8]), x, x, { heads: 2, causal: true }), 'RangeError', /causal/],
    [() => fused.groupNorm(x, c, c, { groups: 3, epsilon: 0 }), 'RangeError', /groups/],
    [() => fused.groupNorm(x, c, c, { groups: 2, epsilon: -1 }), 'RangeError', /epsilon: .* >= 0, got -1/],
    [
      () => fused.groupNorm(x, tf.ones([7]), c, { groups: 2, epsilon: 0 }),
      'RangeError',
      /gamma: expected shape \[8\]/,
    ],
    [
      () => fused.groupNorm(x, c, tf.ones([7]), { groups: 2, epsilon: 0 }),
      'RangeError',
      /beta: expected shape \[8\]/,
    ],
    [() => fused.layerNorm(x, c, c, { epsilon: -1 }), 'RangeError', /epsilon: .* >= 0, got -1/],
    [() => fused.linear(x, tf.ones([4, 7])), 'RangeError', /weight: expected shape \[any,8\]/],
    [() => fused.linear(x, tf.ones([4, 8]), null, 'tanh' as never), 'RangeError', /activation/],
    [
      () => fused.linear(x, tf.ones([4, 8]), null, 'none', { residual: tf.ones([2, 3, 5]) }),
      'RangeError',
      /residual: expected shape/,
    ],
    [
      () => fused.linear(x, tf.ones([8, 8]), null, 'silu', { residual: x }),
      'RangeError',
      /activation: expected 'none' beside a residual/,
    ],
    [
      () => fused.linear(x, tf.ones([4, 8]), null, 'none', { narrow: true } as never),
      'TypeError',
      /unknown option 'narrow'/,
    ],
    [
      () =>
        fused.conv2d(tf.ones([1, 2, 2, 1]), tf.ones([1, 1, 1, 3]), null, {
          pad: 'same',
          residual: tf.ones([1, 2, 2, 1]),
        }),
      'RangeError',
      /residual: expected shape \[1,2,2,3\]/,
    ],
    [() => fused.conv2d(x, c, null, { pad: 'same' }), 'RangeError', /x: expected shape \[any,any,any,any\]/],
    [
      () => fused.conv2d(tf.ones([1, 2, 2, 1]), tf.ones([3, 3, 1, 1]), null, { pad: 'valid' }),
      'RangeError',
      /fits/,
    ],
    [
      () => fused.conv2d(tf.ones([1, 2, 2, 1]), tf.ones([1, 1, 1, 1]), null, { pad: [1, 1] as never }),
      'TypeError',
      /pad/,
    ],
    [
      () => fused.doraLinear(x, { ...w, loraB: tf.ones([4, 3]) }),
      'RangeError',
      /loraB: expected shape \[4,2\]/,
    ],
    [() => fused.doraLinear(x, { ...w, norm: tf.ones([4]) }), 'TypeError', /norm/],
    [() => fused.doraLinear(x, { ...w, scaling: Infinity }), 'RangeError', /scaling/],
    [() => fused.miSquaredNorm(x, x, tf.ones([3])), 'RangeError', /weights: expected shape \[2\]/],
    [
      () => fused.miSquaredNorm(tf.scalar(1), tf.scalar(1), c),
      'RangeError',
      /epsCond: expected rank at least 1/,
    ],
    [() => fused.guidedStep(null as never), 'TypeError', /guidedStep: options: expected an object, got null/],
    [guided({ latents: tf.scalar(1) }), 'RangeError', /latents: expected rank at least 1/],
    [guided({ epsUncond: gone }), 'TypeError', /guidedStep: epsUncond: expected a live tensor/],
    [guided({ epsUncond: tf.ones([7]) }), 'RangeError', /guidedStep: epsUncond: expected shape \[8\]/],
    [guided({ epsCond: tf.ones([1]) }), 'RangeError', /guidedStep: epsCond: expected shape \[8\]/],
    [guided({ cn: 1, noise: tf.ones([7]) }), 'RangeError', /guidedStep: noise: expected shape \[8\]/],
    [guided({ cn: 1 }), 'TypeError', /noise/],
    [guided({ noise: c }), 'TypeError', /cn/],
    [guided({ guidance: NaN }), 'RangeError', /guidance/],
    [() => fused.adamW([], { step: 1, learningRate: 1 }), 'RangeError', /parameters/],
    [() => fused.adamW([param], { step: 0, learningRate: 1 }), 'RangeError', /step: .* >= 1, got 0/],
    [() => fused.adamW([param], { step: 1, learningRate: 1, beta1: 1 }), 'RangeError', /beta1/],
    [() => fused.adamW([param, param], { step: 1, learningRate: 1 }), 'RangeError', /occurs once/],
    [
      () => fused.adamW([{ ...param, m: c as never }], { step: 1, learningRate: 1 }),
      'TypeError',
      /m: expected a variable/,
    ],
    [() => fused.randomNormal([-1], { seed: 0, stream: 0 }), 'RangeError', /shape/],
    [() => fused.randomNormal([1], { seed: -1, stream: 0 }), 'RangeError', /seed/],
    [() => fused.randomUniform([1], { seed: '1' as never, stream: 0 }), 'TypeError', /seed/],
    [() => fused.randomUniform([2 ** 30, 2 ** 30], { seed: 1, stream: 0 }), 'RangeError', /2\^40/],
  ];
  for (const [call, name, message] of refusals) {
    const error = t.throws(call, { name, message }) as Error;
    t.ok(Object.hasOwn(fused, error.message.split(':')[0] as string), `names the function: ${error.message}`);
  }
});
