import { useEngine } from '@equipoise/backend';
import { TorchGenerator } from '@equipoise/core';
import { difference, fixturesOf, requireClose, requireNoLeak } from '@equipoise/testing';
import { openSafetensors, readFloat32 } from '@equipoise/weights';
import * as tf from '@tensorflow/tfjs-core';
import t from 'tap';
import {
  type Generated,
  type GenerateHooks,
  type GenerateInputs,
  latentNoise,
  loadPipeline,
  type SamplingInput,
  type TextToImagePipeline,
} from '../index.js';

const fixtures = fixturesOf(import.meta.url, '../../fixtures');
const prompts = ['a red cat on top of a wooden table', "Two blue houses, it's raining!"];
const negative = ['a small dog', ''];

/** A tensor that diffusers made. */
async function expected(
  kind: 'sd' | 'sdxl',
  name: string,
): Promise<{ values: Float32Array; shape: number[] }> {
  const file = await openSafetensors(fixtures.path(`${kind}/expected.safetensors`));
  try {
    const source = file.tensors.get(name);
    if (source === undefined) throw new Error(`no tensor ${name} in the fixture`);
    return { values: await readFloat32(source), shape: [...source.shape] };
  } finally {
    await file.close();
  }
}

/** Compares a call's latents, images and sums with diffusers' run of that name. */
async function checkRun(
  t: Tap.Test,
  kind: 'sd' | 'sdxl',
  name: string,
  result: Generated,
  scale: (step: number) => number = () => 1,
): Promise<void> {
  const latents = await expected(kind, `${name}.latents`);
  t.strictSame(result.latents.shape, latents.shape, `${name}: shape of latents`);
  requireClose(`${name}: latents`, await result.latents.data(), latents.values, { relativeNorm: 1e-4 });
  const images = await expected(kind, `${name}.images`);
  t.strictSame(
    [result.images.length, ...sides(result)],
    images.shape.slice(0, 3),
    `${name}: shape of images`,
  );
  const found = Float32Array.from(
    result.images.flatMap(({ data }) => [...data]),
    (byte) => byte / 255,
  );
  let sum = 0;
  for (const [i, value] of found.entries()) sum += Math.abs(value - (images.values[i] as number));
  // Eight bits alone differ from diffusers' floats by 1/1020 on average.
  t.ok(
    sum / found.length <= 1.2 / 1020,
    `${name}: mean difference ${((sum / found.length) * 255).toFixed(3)} of 255`,
  );
  if (result.mi.length > 0) {
    const mi = await expected(kind, `${name}.mi`);
    t.equal(result.mi.length, mi.shape[0], `${name}: a sum for each step`);
    const sums = result.mi.flatMap((row, i) => [...row].map((value) => value / scale(i)));
    const worst = difference(sums, mi.values).maxRelative;
    t.ok(worst <= 1e-3, `${name}: sums of squared differences, relative error ${worst}`);
  }
  result.latents.dispose();
}
declare namespace Tap {
  type Test = {
    ok(value: unknown, message: string): boolean;
    equal: typeof t.equal;
    strictSame: typeof t.strictSame;
  };
}
const sides = ({ images: [image] }: Generated): number[] => [image?.height ?? 0, image?.width ?? 0];

// The portable engine is the oracle of every kernel, but too slow for whole pipelines: it runs them only where
// ours has not been built with all its kernels.
const ours = ['Slice', 'Conv2D', 'BatchMatMul', 'Attention'].every((kernel) =>
  tf.getKernel(kernel, 'equipoise-cpu'),
);
const engine = ours ? 'equipoise-cpu' : 'cpu';
await useEngine(engine);

t.test("Stable Diffusion gives diffusers' images", async (t) => {
  const notices: string[] = [];
  const pipeline = await loadPipeline(fixtures.path('sd'), { onNotice: (notice) => notices.push(notice) });
  t.teardown(() => pipeline.dispose());
  t.strictSame(notices, []);
  const common: SamplingInput = { steps: 6, rng: 'torch', seed: 42, height: 64, width: 64 };
  const summed: GenerateHooks = { miWeight: () => 1 };
  const run = (
    inputs: GenerateInputs,
    options: SamplingInput,
    hooks: GenerateHooks = summed,
  ): Promise<Generated> => pipeline.generate(inputs, { ...common, ...options }, hooks);

  await checkRun(t, 'sd', 'pndm', await run({ prompt: prompts }, {}));
  await checkRun(
    t,
    'sd',
    'ddim',
    await run({ prompt: prompts, negativePrompt: negative }, { sampler: 'ddim', width: 48 }),
  );
  const ancestral = { sampler: 'ddpm', imagesPerPrompt: 2 } as const;
  await checkRun(t, 'sd', 'ddpm', await run({ prompt: prompts[0] as string }, ancestral));
  await checkRun(
    t,
    'sd',
    'ddpm',
    await run({ prompt: prompts[0] as string }, { ...ancestral, unetBatch: 1 }),
  );
  await checkRun(
    t,
    'sd',
    'rescaled',
    await run({ prompt: prompts }, { sampler: 'ddim', seeds: [1, 2], guidanceRescale: 0.7 }),
  );
  await checkRun(
    t,
    'sd',
    'skip',
    await run({ prompt: prompts[1] as string }, { sampler: 'euler', seed: 5, clipSkip: 1 }),
  );
  const { values, shape } = await expected('sd', 'unguided.embeds');
  const promptEmbeds = tf.tensor3d(values, shape as [number, number, number]);
  await checkRun(
    t,
    'sd',
    'unguided',
    await run({ promptEmbeds }, { sampler: 'ddim', seed: 7, guidance: 1 }, {}),
  );
  promptEmbeds.dispose();
});

t.test('velocity prediction, stochastic DDIM, sums in terms of noise', async (t) => {
  const pipeline = await loadPipeline(fixtures.path('sd'));
  t.teardown(() => pipeline.dispose());
  const velocity = new (pipeline.constructor as typeof TextToImagePipeline)({
    ...pipeline.parts,
    scheduler: { ...(pipeline.parts.scheduler as object), prediction_type: 'v_prediction' },
  });
  const options = { steps: 6, rng: 'torch', seed: 6, sampler: 'ddim', eta: 0.4 } as const;
  const result = await velocity.generate({ prompt: prompts }, options, { miWeight: () => 1 });
  const sampler = velocity.sampler(options);
  await checkRun(t, 'sd', 'velocity', result, (step) => sampler.coefficients(step).epsilonScale ** 2);
});

t.test("Stable Diffusion XL gives diffusers' images", async (t) => {
  const pipeline = await loadPipeline(fixtures.path('sdxl'));
  t.teardown(() => pipeline.dispose());
  t.equal(pipeline.className, 'StableDiffusionXLPipeline');
  const common: SamplingInput = { steps: 5, rng: 'torch', seed: 42 };
  const hooks: GenerateHooks = { miWeight: () => 1 };
  await checkRun(t, 'sdxl', 'euler', await pipeline.generate({ prompt: prompts }, common, hooks));
  const options: SamplingInput = { ...common, seed: 8, sampler: 'ddim', unetBatch: 1 };
  const inputs = { prompt: prompts, negativePrompt: negative };
  await checkRun(t, 'sdxl', 'negative', await pipeline.generate(inputs, options, hooks));
  const embeds = pipeline.encodePrompts(prompts).embeds;
  await t.rejects(pipeline.generate({ promptEmbeds: embeds }, common), /pooledPromptEmbeds.*\[2, width\]/);
  embeds.dispose();
});

t.test('initial latents of torch seed 42 are those of diffusers', async (t) => {
  const shape = [1, 8, 8, 4] as const;
  const noise = latentNoise('torch', shape, 42).initial();
  const draw = new TorchGenerator(42).randn(256);
  const values = await noise.data();
  const golden = [1.9269153, 1.4872841, 0.9007172, -2.1055212];
  for (const [i, value] of golden.entries()) {
    // The first channel's first row: channels are last here and first in torch.
    t.ok(Math.abs((values[i * 4] as number) - value) <= 2.4e-7, `latent ${i} is ${value}`);
  }
  t.equal(values[1], draw[64], 'the second channel follows a whole plane later');
  noise.dispose();
});

t.test('Philox images depend on their own seed alone', async (t) => {
  const pipeline = await loadPipeline(fixtures.path('sd'));
  t.teardown(() => pipeline.dispose());
  const options: SamplingInput = { steps: 3, sampler: 'ddpm' };
  const four = await pipeline.generate({ prompt: prompts }, { ...options, seed: 10, imagesPerPrompt: 2 });
  const one = await pipeline.generate({ prompt: prompts[1] as string }, { ...options, seed: 12 });
  const mixed = await pipeline.generate({ prompt: prompts }, { ...options, seeds: [11, 13] });
  t.equal(four.images.length, 4);
  requireClose('image 2', four.images[2]!.data, one.images[0]!.data, { absolute: 1 });
  requireClose('image 1', four.images[1]!.data, mixed.images[0]!.data, { absolute: 1 });
  t.not(difference(four.images[0]!.data, four.images[1]!.data).maxAbsolute, 0, 'seeds differ');
  t.match(four.settings[2], {
    prompt: prompts[1],
    seed: 12,
    rng: 'philox',
    sampler: 'ddpm',
    width: 64,
    height: 64,
  });
  for (const { latents } of [four, one, mixed]) latents.dispose();

  const again = await pipeline.generate({ prompt: prompts[1] as string }, { ...options, seed: 12 });
  t.strictSame(again.images[0]!.data, one.images[0]!.data, 'the same call twice, bit for bit');
  again.latents.dispose();
});

t.test('steps are reported, can be cancelled, and nothing leaks', async (t) => {
  const pipeline = await loadPipeline(fixtures.path('sd'));
  t.teardown(() => pipeline.dispose());
  const seen: number[] = [];
  const progress: string[] = [];
  const options: SamplingInput = { steps: 4, sampler: 'ddim' };
  const hooks: GenerateHooks = {
    miWeight: (timestep) => (timestep > 50 ? 2 : 0),
    onStep: (event) => {
      seen.push(event.timestep);
      t.strictSame(event.latents.shape, event.before.shape);
      const own = tf.tidy(
        () => tf.sum(tf.square(tf.sub(event.cond, event.uncond as tf.Tensor4D))).dataSync()[0],
      );
      const weight = event.timestep > 50 ? 2 : 0;
      requireClose('sum', [event.mi?.[0] as number], [weight * (own as number)], {
        absolute: 1e-6,
        relative: 1e-4,
      });
    },
    onProgress: ({ task, done, total }) => progress.push(`${task} ${done}/${total}`),
  };
  const { latents, mi } = await pipeline.generate({ prompt: 'a cat' }, options, hooks);
  latents.dispose();
  t.strictSame(seen, [751, 501, 251, 1]);
  t.equal(mi.length, 4);
  t.strictSame(progress, [
    'denoise 0/4',
    'denoise 1/4',
    'denoise 2/4',
    'denoise 3/4',
    'denoise 4/4',
    'decode 1/1',
  ]);

  const generate = async (sampler: 'pndm' | 'ddpm', extra: GenerateHooks = {}): Promise<void> => {
    const result = await pipeline.generate({ prompt: 'a cat' }, { steps: 5, sampler }, extra);
    result.latents.dispose();
  };
  await requireNoLeak('pndm', () => generate('pndm'));
  await requireNoLeak('ddpm with sums', () => generate('ddpm', { miWeight: () => 1 }));
  await requireNoLeak('parts of a batch that share their text', async () => {
    const input: SamplingInput = { ...options, imagesPerPrompt: 5, unetBatch: 2 };
    const result = await pipeline.generate({ prompt: 'a cat' }, input);
    t.equal(result.images.length, 5);
    result.latents.dispose();
  });
  await requireNoLeak('cancelled', async () => {
    const controller = new AbortController();
    const onStep = ({ index }: { index: number }): void => {
      if (index === 2) controller.abort();
    };
    await t.rejects(generate('pndm', { signal: controller.signal, onStep }), { code: 'cancelled' });
  });
  await requireNoLeak('a listener that throws', async () => {
    const onStep = (): never => {
      throw new Error('listener');
    };
    await t.rejects(generate('ddpm', { onStep, miWeight: () => 1 }), /listener/);
  });
});

t.test('calls that cannot be honoured are refused before any work', async (t) => {
  const pipeline = await loadPipeline(fixtures.path('sd'));
  t.teardown(() => pipeline.dispose());
  const refuse = (inputs: GenerateInputs, options: SamplingInput, pattern: RegExp): Promise<unknown> =>
    t.rejects(pipeline.generate(inputs, options), pattern);
  await refuse({}, {}, /prompt: expected either prompts or promptEmbeds, got neither/);
  await refuse({ prompt: [] }, {}, /at least one prompt/);
  await refuse({ prompt: 'a', negativePrompt: ['b', 'c'] }, {}, /negativePrompt: expected 1 texts/);
  await refuse({ prompt: 'a' }, { width: 60 }, /width: expected a multiple of 8/);
  await refuse({ prompt: 'a' }, { steps: 0 }, /steps/);
  await refuse({ prompt: 'a' }, { seeds: [1, 2] }, /seeds: expected 1 seeds/);
  await refuse({ prompt: 'a' }, { clipSkip: 9 }, /clipSkip/);
  await refuse({ prompt: 'a' }, { sampler: 'ddpm', eta: 1 }, /eta/);
  await refuse({ prompt: 'a' }, { guidance: 1, guidanceRescale: 0.5 }, /guidanceRescale/);
  await refuse({ prompt: 'a' }, { unknown: 1 } as SamplingInput, /unknown/);
  const narrow = tf.zeros([1, 77, 8]) as tf.Tensor3D;
  await refuse({ promptEmbeds: narrow }, {}, /promptEmbeds: expected \[prompts, positions, 32\]/);
  const long = tf.zeros([1, 78, 32]) as tf.Tensor3D;
  await refuse(
    { promptEmbeds: long },
    {},
    /promptEmbeds: expected at most 77 positions, or .*negative.*, got 78/,
  );
  const latents = tf.zeros([1, 4, 4, 4]) as tf.Tensor4D;
  await refuse({ prompt: 'a', latents }, {}, /latents: expected \[1, 8, 8, 4\]/);
  const warnings: unknown[] = [];
  const options: SamplingInput = { steps: 1 };
  const many = await pipeline.generate({ prompt: 'cat '.repeat(90) }, options, {
    onWarning: (w) => warnings.push(w),
  });
  t.match(warnings, [{ kind: 'truncated', kept: 75 }]);
  tf.dispose([many.latents, long, narrow, latents]);
});
