/** The fused ops that are not differentiable, and PyTorch fixtures of DoRA and AdamW. */
import { PhiloxStream } from '@equipoise/core';
import { enginesUnderTest, fixturesOf, requireClose, requireNoLeak, testEngine } from '@equipoise/testing';
import * as tf from '@tensorflow/tfjs-core';
import t from 'tap';
import { toStorage, uploadWeight, useEngine } from '../index.js';
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

t.test('adamW trains frozen and bf16 weights in f32 memory of its own', async (t) => {
  await useEngine(testEngine());
  const bf16 = new Uint8Array(Uint16Array.of(0x3f80, 0xc000).buffer);
  const f32 = new Uint8Array(Float32Array.of(1, -2).buffer);
  const weights = {
    'frozen bf16': () => uploadWeight(bf16, [2], 'BF16', { storage: 'bf16' }),
    'frozen f32': () => uploadWeight(f32, [2], 'F32', { storage: 'f32' }),
    bf16: () => toStorage(tf.tensor1d([1, -2]), 'bf16'),
  };
  for (const [name, make] of Object.entries(weights)) {
    for (const shared of [true, false]) {
      const weight = make();
      const [parameter, m, v] = [weight, tf.zeros([2]), tf.zeros([2])].map((x) => tf.variable(x)) as [
        tf.Variable,
        tf.Variable,
        tf.Variable,
      ];
      if (!shared) weight.dispose();
      fused.adamW([{ parameter, gradient: tf.tensor1d([1, -1]), m, v }], {
        step: 1,
        learningRate: 1e-4,
        weightDecay: 0,
      });
      // The first step of Adam moves by the learning rate, which bf16 could not show.
      requireClose(name, await parameter.data(), [1 - 1e-4, -2 + 1e-4], { absolute: 2e-7 });
      if (shared) t.same([...(await weight.data())], [1, -2], `${name}: the weight itself stays`);
    }
  }
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
