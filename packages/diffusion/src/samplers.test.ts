import { readFileSync } from 'node:fs';
import { TorchGenerator } from '@equipoise/core';
import t from 'tap';
import {
  applyStep,
  createSampler,
  initialState,
  noiseLevels,
  parseSchedulerConfig,
  posterior,
  type SamplerOptions,
  scheduleOf,
} from './index.js';

interface Trajectory {
  config: Record<string, unknown>;
  steps: number;
  eta: number;
  timesteps: number[];
  init_noise_sigma: number;
  x: string;
}
const fixture = JSON.parse(readFileSync(new URL('../fixtures/schedulers.json', import.meta.url), 'utf8')) as {
  seed: number;
  width: number;
  trajectories: Trajectory[];
};
const stableDiffusion = {
  beta_start: 0.00085,
  beta_end: 0.012,
  beta_schedule: 'scaled_linear',
  steps_offset: 1,
  clip_sample: false,
  set_alpha_to_one: false,
  skip_prk_steps: true,
};

/** The stand-in model of the fixtures. */
function model(x: Float32Array, timestep: number): Float32Array {
  return x.map((value) => (0.4 * value) / (1 + value * value) + (0.05 * timestep) / 1000);
}

function decodeF32(text: string): Float32Array {
  return new Float32Array(Uint8Array.from(Buffer.from(text, 'base64')).buffer);
}

t.test('full trajectories equal diffusers to 1e-4', async (t) => {
  t.ok(fixture.trajectories.length >= 49);
  for (const expected of fixture.trajectories) {
    const { config } = parseSchedulerConfig(expected.config);
    const sampler = createSampler(config, { steps: expected.steps, eta: expected.eta });
    const label = `${config.className} ${expected.steps} ${config.timestepSpacing} ${config.predictionType}`;
    t.strictSame(sampler.timesteps, expected.timesteps, `${label}: timesteps`);
    t.ok(Math.abs(sampler.initNoiseSigma / expected.init_noise_sigma - 1) < 1e-6, `${label}: initial sigma`);

    const generator = new TorchGenerator(fixture.seed);
    const start = generator.randn(fixture.width).map((value) => value * sampler.initNoiseSigma);
    const rows = decodeF32(expected.x);
    t.equal(rows.length, sampler.timesteps.length * fixture.width);
    let state = initialState(start);
    // Absolute, except with zero terminal SNR, where the first step cancels float32 values near 4096.
    const tolerance = 1e-4 * Math.max(1, sampler.initNoiseSigma / 256);
    let worst = 0;
    for (let i = 0; i < sampler.timesteps.length; i++) {
      const step = sampler.coefficients(i);
      const output = model(
        state.x.map((value) => value * step.inputScale),
        step.timestep,
      );
      const noise = step.drawsNoise ? generator.randn(fixture.width) : undefined;
      state = applyStep(step, state, output, noise, sampler.historyLength);
      for (const [j, value] of state.x.entries()) {
        const error = Math.abs(value - (rows[i * fixture.width + j] as number));
        worst = error <= worst ? worst : error;
      }
    }
    t.ok(worst <= tolerance, `${label}: max abs error ${worst}`);
  }
});

/** x after every step of the scalar recursion m = 0.1 x_in + 0.01 t / 1000 from x = initial sigma. */
function recursion(className: string, options: SamplerOptions, extra: object = {}): number[] {
  const { config } = parseSchedulerConfig({ ...stableDiffusion, ...extra, _class_name: className });
  const sampler = createSampler(config, options);
  let state = initialState(Float32Array.of(sampler.initNoiseSigma));
  return sampler.timesteps.map((_, i) => {
    const step = sampler.coefficients(i);
    const input = state.x.map((value) => value * step.inputScale);
    state = applyStep(
      step,
      state,
      input.map((value) => 0.1 * value + (0.01 * step.timestep) / 1000),
    );
    return state.x[0] as number;
  });
}

t.test('published recursions', async (t) => {
  const check = (name: string, values: number[], head: number[], tail: number[]): void => {
    const seen = [...values.slice(0, head.length), ...values.slice(-2)];
    for (const [i, value] of [...head, ...tail].entries()) {
      t.ok(Math.abs((seen[i] as number) / value - 1) < 3e-6, `${name}: ${seen[i]} is ${value}`);
    }
  };
  const v = { prediction_type: 'v_prediction' };
  check(
    'DDIM 50',
    recursion('DDIMScheduler', { steps: 50 }),
    [1.1093174, 1.2268875, 1.3528742],
    [9.5236235, 9.5161324],
  );
  check(
    'DDIM 100',
    recursion('DDIMScheduler', { steps: 100 }),
    [1.0543162, 1.1107427, 1.1693077],
    [10.002573, 9.9947052],
  );
  check(
    'DDIM 50 v',
    recursion('DDIMScheduler', { steps: 50 }, v),
    [0.9989276, 0.9977595, 0.9964919],
    [0.8367183, 0.8356415],
  );
  const pndm = recursion('PNDMScheduler', { steps: 50 });
  t.equal(pndm.length, 51);
  check('PNDM 50', pndm, [1.1093174, 1.108656, 1.2255183, 1.350659, 1.4842281], [9.4407749, 9.4333925]);
  check(
    'Euler 50',
    recursion('EulerDiscreteScheduler', { steps: 50 }, { timestep_spacing: 'leading' }),
    [12.9998636, 12.8490648, 12.7054777],
    [9.5317488, 9.4924021],
  );
});

t.test('published DDPM coefficients', async (t) => {
  const { config } = parseSchedulerConfig({ ...stableDiffusion, _class_name: 'DDPMScheduler' });
  const alphas = scheduleOf(config).alphasCumprod;
  const golden: [number, number, number, number][] = [
    [991, 0.00853670854, 0.941856742, 0.334187448],
    [501, 0.0346315205, 0.958186209, 0.214189097],
    [51, 0.21337983, 0.786566198, 0.0922891051],
    [11, 0.837850273, 0.162148863, 0.0378007405],
    [1, 1, 0, 1e-10],
  ];
  for (const [timestep, x0, x, std] of golden) {
    const previous = timestep === 1 ? 1 : (alphas[timestep - 10] as number);
    const found = posterior(alphas[timestep] as number, previous, 'fixed_small');
    t.strictSame(found, { x0: Math.fround(x0), x: Math.fround(x), std: Math.fround(std) }, `t = ${timestep}`);
  }
  const sampler = createSampler(config, { steps: 100 });
  t.equal(sampler.coefficients(99).drawsNoise, true, 'the last step at t = 1 still draws');
});

t.test('published Euler noise levels', async (t) => {
  const json = { ...stableDiffusion, _class_name: 'EulerDiscreteScheduler', timestep_spacing: 'leading' };
  const { config } = parseSchedulerConfig(json);
  const table = noiseLevels(scheduleOf(config));
  t.equal(table[999], Math.fround(14.6146469));
  t.equal(table[0], Math.fround(0.0291675329));
  const sampler = createSampler(config, { steps: 50 });
  t.ok(Math.abs(sampler.initNoiseSigma - 13.1584692) < 1e-6);
  const sigma = (i: number): number => Math.sqrt(1 / sampler.coefficients(i).inputScale ** 2 - 1);
  t.ok(Math.abs(sigma(0) - 13.1204157) < 1e-5);
  t.ok(Math.abs(sigma(1) - 11.6760502) < 1e-5);
  t.ok(Math.abs(sigma(49) - 0.041314479) < 1e-7);
  t.ok(Math.abs(sampler.coefficients(49).ce + 0.041314479) < 1e-7, 'the last step ends at sigma 0');
});

t.test('how the predicted noise grows with the output of the model', async (t) => {
  for (const name of ['DDIMScheduler', 'DDPMScheduler', 'PNDMScheduler', 'EulerDiscreteScheduler']) {
    for (const type of ['epsilon', 'v_prediction', 'sample']) {
      if (name === 'PNDMScheduler' && type === 'sample') continue;
      const { config } = parseSchedulerConfig({
        ...stableDiffusion,
        _class_name: name,
        prediction_type: type,
        timestep_spacing: 'leading',
      });
      const sampler = createSampler(config, { steps: 5 });
      for (const [i, timestep] of sampler.timesteps.entries()) {
        const alpha = scheduleOf(config).alphasCumprod[timestep] as number;
        const expected =
          type === 'epsilon' ? 1 : type === 'sample' ? -Math.sqrt(alpha / (1 - alpha)) : Math.sqrt(alpha);
        const found = sampler.coefficients(i).epsilonScale;
        t.ok(
          Math.abs(found / expected - 1) < 1e-6,
          `${name} ${type} at ${timestep}: ${found} is ${expected}`,
        );
      }
    }
  }
});

t.test('misuse is refused', async (t) => {
  const config = (name: string) => parseSchedulerConfig({ ...stableDiffusion, _class_name: name }).config;
  t.throws(() => createSampler(config('DDPMScheduler'), { steps: 5, eta: 1 }), /eta \(DDPMScheduler\)/);
  t.throws(() => createSampler(config('DDIMScheduler'), { steps: 5, eta: 2 }), /eta/);
  t.throws(() => createSampler(config('DDIMScheduler'), { steps: 0 }), /inference steps/);
  const ddpm = createSampler(config('DDPMScheduler'), { steps: 5 });
  const x = new Float32Array(2);
  t.throws(() => applyStep(ddpm.coefficients(0), initialState(x), x), /noise/);
  const pndm = createSampler(config('PNDMScheduler'), { steps: 5 });
  t.throws(() => applyStep(pndm.coefficients(1), initialState(x), x), /held/);
});
