/** Scores against diffusers (tools/parity/make_mi_fixtures.py), and what sweeps, sets and tuning promise. */
import path from 'node:path';
import { createAdapter } from '@equipoise/adapters';
import { useEngine } from '@equipoise/backend';
import { parseJson } from '@equipoise/core';
import { createSampler, denoise } from '@equipoise/diffusion';
import { fixturesOf, requireClose } from '@equipoise/testing';
import { openSafetensors, readFloat32, type TrainingState } from '@equipoise/weights';
import * as tf from '@tensorflow/tfjs-core';
import t from 'tap';
import {
  buildSet,
  encodePrompts,
  FINE_TUNE_DEFAULTS,
  type FineTuneOptions,
  FineTuner,
  loadExamples,
  miWeight,
  openParts,
  parsePrompts,
  partsSchedule,
  type SweepOptions,
  sweep,
  topCandidates,
  truncatedPrompts,
  WEIGHTINGS,
} from './index.js';
import { smallParts } from './testing.js';

await useEngine('equipoise-cpu');
const parts = await smallParts();
const schedule = partsSchedule(parts);

t.test('weights are the published ones', (t) => {
  // FACTS of the published code at its own timesteps.
  for (const [step, weight] of [
    [51, 11.1786],
    [101, 6.494],
    [501, 3.3284],
    [991, 5.9603],
  ] as const) {
    t.ok(Math.abs(miWeight(schedule, step, { weighting: 'reference' }) / weight - 1) < 2e-5);
    t.ok(Math.abs((miWeight(schedule, step) * (1 - (schedule.betas[step] as number))) / weight - 1) < 2e-5);
  }
  t.equal(miWeight(schedule, 50), 0);
  t.throws(() => miWeight(schedule, 1000), /timestep: expected a whole number from 0 to 999, got 1000/);
  t.end();
});

t.test('the score summed in the sampling loop is that of diffusers', async (t) => {
  const file = await openSafetensors(fixturesOf(import.meta.url).path('ddpm.safetensors'));
  const settings = parseJson(file.metadata.get('settings') as string, 'settings') as {
    prompts: string[];
    steps: number;
    guidance: number;
    timesteps: number[];
  };
  const tensor = async (name: string): Promise<tf.Tensor4D> =>
    tf.tensor4d(await readFloat32(file.get(name)), [...file.get(name).shape] as [
      number,
      number,
      number,
      number,
    ]);
  const sampler = createSampler(parts.scheduler, { steps: settings.steps }, schedule);
  t.same(sampler.timesteps, settings.timesteps);
  const cond = encodePrompts(parts, settings.prompts);
  requireClose('text states', (await cond.data()) as Float32Array, await readFloat32(file.get('cond')), {
    absolute: 1e-5,
  });
  const uncond = encodePrompts(
    parts,
    settings.prompts.map(() => ''),
  );
  const noises = await Promise.all(settings.timesteps.map((_, i) => tensor(`noise.${i}`)));
  for (const weighting of WEIGHTINGS) {
    const initial = await tensor('initial');
    const { latents, mi } = await denoise(initial, {
      unet: parts.unet,
      sampler,
      conditioning: { cond, uncond },
      guidance: settings.guidance,
      noise: (i) => tf.clone(noises[i] as tf.Tensor4D),
      miWeight: (step) => miWeight(schedule, step, { weighting }),
    });
    const kept = mi.filter((_, i) => (settings.timesteps[i] as number) > 50);
    const scores = Float32Array.from(
      { length: 3 },
      (_, n) => kept.reduce((sum, step) => sum + (step[n] as number), 0) / kept.length,
    );
    requireClose(`mi ${weighting}`, scores, await readFloat32(file.get(`mi.${weighting}`)), {
      relativeNorm: 1e-4,
    });
    requireClose('latents', (await latents.data()) as Float32Array, await readFloat32(file.get('final')), {
      relativeNorm: 1e-4,
    });
    tf.dispose([latents, initial]);
  }
  tf.dispose([cond, uncond, ...noises]);
  await file.close();
  t.pass();
});

const options: SweepOptions = {
  prompts: ['a red circle', 'a blue square', 'a cat'],
  candidates: 5,
  batch: 4,
  steps: 12,
  guidance: 7.5,
  seed: 42,
};

t.test('set, tuning and resuming', async (t) => {
  const folder = t.testdir();
  const rows = await sweep({ folder: path.join(folder, 'sweep'), parts, options });
  const chosen = topCandidates(rows, 2);
  t.equal(chosen.length, 6);
  t.ok(chosen.every((row, i) => i % 2 === 0 || row.mi <= (chosen[i - 1] as { mi: number }).mi));
  t.throws(() => topCandidates(rows, 6), /top: expected a whole number from 1 to the 5 candidates/);
  const set = await buildSet(path.join(folder, 'set'), parts, { chosen }, options, { batch: 4 });
  t.same(await buildSet(path.join(folder, 'set'), parts, { chosen }, options, { batch: 4 }), set);
  await t.rejects(
    buildSet(path.join(folder, 'set'), parts, { chosen: chosen.slice(1) }, options, { batch: 4 }),
    {
      code: 'conflict',
    },
  );
  const examples = await loadExamples(path.join(folder, 'set'), parts);
  const settings = {
    ...FINE_TUNE_DEFAULTS,
    batch: 2,
    accumulation: 2,
    updates: 4,
    learningRate: 1e-3,
    seed: 7,
  };
  const run = async (
    from: TrainingState | undefined,
    until: number,
    changes: Partial<FineTuneOptions> = {},
  ): Promise<{ state: TrainingState; losses: number[]; rates: number[] }> => {
    const adapter = createAdapter(
      parts.unet,
      'test',
      { kind: 'dora', rank: 4, alpha: 4, init: 'gaussian', targets: ['to_q', 'to_k', 'to_v', 'to_out.0'] },
      1,
    );
    const tuner = new FineTuner(parts, [adapter], examples, { ...settings, ...changes });
    if (from !== undefined) tuner.restore(from);
    const [losses, rates]: [number[], number[]] = [[], []];
    while (tuner.step < until) {
      const { loss, learningRate } = await tuner.update();
      losses.push(loss);
      rates.push(learningRate);
    }
    const state = await tuner.state();
    tuner.dispose();
    adapter.remove();
    return { state, losses, rates };
  };
  const before = tf.memory().numTensors;
  const whole = await run(undefined, 4);
  t.equal(tf.memory().numTensors, before, 'nothing leaks');
  const half = await run(undefined, 2);
  const resumed = await run(half.state, 4);
  t.same(resumed.state, whole.state, 'bit for bit');
  const recomputed = await run(undefined, 4, { gradientCheckpointing: true });
  requireClose('losses', Float32Array.from(recomputed.losses), Float32Array.from(whole.losses), {
    relativeNorm: 1e-5,
  });
  t.ok(
    whole.state.tensors.some(({ value }, i) => i % 3 === 1 && value.some((x) => x !== 0)),
    'the up projections move',
  );
  const forward = t.capture(parts.unet, 'forward', parts.unet.forward);
  await run(undefined, 4);
  await run(undefined, 4, { lowestTimestep: 900 });
  const drawn = forward().map(({ args }) => args[1] as number[]);
  t.equal(drawn.length, 16);
  t.ok(
    drawn
      .slice(0, 8)
      .flat()
      .some((timestep) => timestep < 500),
    'all timesteps, as published',
  );
  t.ok(
    drawn
      .slice(8)
      .flat()
      .every((timestep) => timestep >= 900 && timestep < 1000),
  );
  const { rates } = await run(undefined, 4, { warmup: 2, decay: 'linear' });
  t.same(rates, [0.5e-3, 0.75e-3, 0.5e-3, 0.25e-3]);
  await t.rejects(
    run(undefined, 1, { lowestTimestep: 1000 }),
    /lowestTimestep: expected a whole number from 0 to 999, got 1000/,
  );
});

t.test('a pipeline with two text encoders is refused by name', async (t) => {
  const folder = fixturesOf(import.meta.resolve('@equipoise/diffusion')).path('sdxl');
  await t.rejects(openParts(folder), {
    code: 'unsupported',
    message: /sdxl: expected a pipeline with one text encoder, got StableDiffusionXLPipeline/,
  });
});

t.test('prompts that are longer than the model reads', async (t) => {
  const long = 'a red car '.repeat(100);
  t.same(truncatedPrompts(parts, ['a red car', long, '']), [long]);
});

t.test('prompt files', (t) => {
  t.same(parsePrompts('\uFEFFa red car\tcolor\r\n\r\na blue car\na red car\n', 'x'), {
    prompts: ['a red car', 'a blue car'],
    duplicates: 1,
  });
  t.throws(
    () => parsePrompts(' \n\t\n', 'prompts.txt'),
    /prompts.txt: expected at least one prompt, got none/,
  );
  t.end();
});
