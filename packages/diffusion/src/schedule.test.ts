import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import t from 'tap';
import {
  forwardFactors,
  fractionalTimesteps,
  linspaceF32,
  makeSchedule,
  parseSchedulerConfig,
  scheduleOf,
  spacedTimesteps,
} from './index.js';

interface Fixture {
  tables: {
    config: Record<string, unknown>;
    betas: string;
    alphas_cumprod: string;
    /** Every ninth value, from the last backwards: base64 of float32. */
    zero_snr_alphas_cumprod: string;
  }[];
  timestep_lists: { class_name: string; spacing: 'leading' | 'trailing' | 'linspace'; sha256: string }[];
}
const fixture = JSON.parse(
  readFileSync(new URL('../fixtures/schedulers.json', import.meta.url), 'utf8'),
) as Fixture;
const stableDiffusion = {
  numTrainTimesteps: 1000,
  betaStart: 0.00085,
  betaEnd: 0.012,
  betaSchedule: 'scaled_linear',
} as const;

const sha256 = (data: Float32Array | Float64Array): string =>
  createHash('sha256')
    .update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength))
    .digest('hex');

t.test('betas and cumulative products equal diffusers bit for bit', async (t) => {
  t.equal(fixture.tables.length, 6);
  for (const { config, betas, alphas_cumprod } of fixture.tables) {
    const schedule = scheduleOf(parseSchedulerConfig({ ...config, _class_name: 'DDIMScheduler' }).config);
    const name = `${String(config['beta_schedule'])} ${String(config['num_train_timesteps'])}`;
    t.equal(sha256(schedule.betas), betas, `betas, ${name}`);
    t.equal(sha256(schedule.alphasCumprod), alphas_cumprod, `cumulative products, ${name}`);
  }
});

t.test('published values of the Stable Diffusion schedule', async (t) => {
  const { betas, alphasCumprod } = makeSchedule(stableDiffusion);
  for (const [step, value] of [
    [0, 0.00085],
    [1, 0.000854698592],
    [999, 0.012],
  ] as const) {
    t.ok(Math.abs((betas[step] as number) / value - 1) < 1e-7, `beta at ${step}`);
  }
  const golden: [number, number][] = [
    [0, 0.999149978],
    [1, 0.998296022],
    [10, 0.990431309],
    [50, 0.95157665],
    [100, 0.894223154],
    [250, 0.673792303],
    [500, 0.276332468],
    [750, 0.0561698042],
    [900, 0.0141511327],
    [991, 0.00513006235],
    [998, 0.00471669575],
    [999, 0.00466009509],
  ];
  for (const [step, value] of golden) t.equal(alphasCumprod[step], Math.fround(value), `alpha at ${step}`);
  const { signal, noise } = forwardFactors({ betas, alphasCumprod }, 500);
  t.ok(Math.abs(signal ** 2 + noise ** 2 - 1) < 1e-6);
});

t.test('a zero-terminal-SNR schedule ends without signal and starts unchanged', async (t) => {
  for (const { config, zero_snr_alphas_cumprod: text } of fixture.tables) {
    const json = { ...config, _class_name: 'DDIMScheduler', rescale_betas_zero_snr: true };
    const found = scheduleOf(parseSchedulerConfig(json).config).alphasCumprod;
    const expected = new Float32Array(Uint8Array.from(Buffer.from(text, 'base64')).buffer);
    t.equal(expected.length, Math.ceil(found.length / 9));
    const errors = expected.map((value, i) => Math.abs((found.at(-1 - 9 * i) as number) - value));
    t.ok(
      errors.every((error) => error <= 5e-7),
      `${String(config['beta_schedule'])}: ${Math.max(...errors)}`,
    );
  }
  const plain = makeSchedule(stableDiffusion).alphasCumprod;
  const zero = makeSchedule({ ...stableDiffusion, rescaleZeroTerminalSnr: true }).alphasCumprod;
  t.equal(zero[999], 0);
  t.ok(Math.abs((zero[0] as number) - (plain[0] as number)) < 1e-6);
});

t.test('timestep lists equal diffusers for every count from 1 to 1000', async (t) => {
  t.equal(fixture.timestep_lists.length, 6);
  for (const { class_name: name, spacing, sha256: expected } of fixture.timestep_lists) {
    const list = name === 'DDIMScheduler' ? spacedTimesteps : fractionalTimesteps;
    const hash = createHash('sha256');
    for (let steps = 1; steps <= 1000; steps++) {
      const values = Float64Array.from(list(spacing, steps, 1000, 1));
      hash.update(new Uint8Array(values.buffer));
    }
    t.equal(hash.digest('hex'), expected, `${name} ${spacing}`);
  }
});

t.test('published timestep lists', async (t) => {
  t.strictSame(spacedTimesteps('leading', 50, 1000, 1).slice(0, 3), [981, 961, 941]);
  t.equal(spacedTimesteps('leading', 50, 1000, 1).at(-1), 1);
  t.strictSame(spacedTimesteps('leading', 30, 1000, 1).slice(0, 3), [958, 925, 892]);
  t.strictSame(spacedTimesteps('trailing', 50, 1000, 1).slice(-2), [39, 19]);
  t.strictSame(spacedTimesteps('linspace', 50, 1000, 1).slice(0, 5), [999, 979, 958, 938, 917]);
  t.ok(Math.abs((fractionalTimesteps('linspace', 50, 1000, 1)[1] as number) - 978.6122) < 1e-4);
});

t.test('explicit betas take the place of a formula', async (t) => {
  const trainedBetas = [0.125, 0.25, 0.5];
  const { betas, alphasCumprod } = makeSchedule({ ...stableDiffusion, numTrainTimesteps: 3, trainedBetas });
  t.strictSame([...betas], trainedBetas);
  t.strictSame([...alphasCumprod], [0.875, 0.65625, 0.328125]);
});

t.test('bad schedules and counts are refused', async (t) => {
  t.throws(() => makeSchedule({ ...stableDiffusion, betaSchedule: 'cosine' as never }), /beta_schedule/);
  t.throws(() => makeSchedule({ ...stableDiffusion, numTrainTimesteps: 0 }), /num_train_timesteps/);
  t.throws(() => makeSchedule({ ...stableDiffusion, trainedBetas: [0.1] }), /trained_betas.*1000/);
  t.throws(() => makeSchedule({ ...stableDiffusion, betaEnd: 1.01 }), /betas\[\d+\]/);
  t.throws(() => spacedTimesteps('leading', 1001, 1000, 0), /1 to 1000/);
  t.throws(() => spacedTimesteps('leading', 2.5, 1000, 0), /inference steps/);
  t.throws(() => spacedTimesteps('even' as never, 5, 1000, 0), /timestep_spacing/);
  t.throws(() => forwardFactors(makeSchedule(stableDiffusion), 1000), /timestep/);
  t.strictSame([...linspaceF32(2, 3, 1)], [2]);
});

t.test('scheduler configs: class defaults, pipeline corrections, unknown keys', async (t) => {
  const pndm = { _class_name: 'PNDMScheduler', skip_prk_steps: true, set_alpha_to_one: false, extra: 1 };
  const parsed = parseSchedulerConfig(pndm);
  t.strictSame(parsed.ignored, ['extra']);
  t.match(parsed.config, {
    betaStart: 0.0001,
    stepsOffset: 0,
    clipSample: false,
    timestepSpacing: 'leading',
  });

  const reused = parseSchedulerConfig(pndm, { as: 'DDIMScheduler' });
  t.equal(reused.config.clipSample, true, 'a PNDM config read as DDIM clips by default');
  t.strictSame(reused.ignored, ['skip_prk_steps', 'extra']);
  const corrected = parseSchedulerConfig(pndm, { as: 'DDIMScheduler', pipeline: 'sd' });
  t.match(corrected.config, { clipSample: false, stepsOffset: 1 });
  t.equal(corrected.corrections.length, 2);
  t.equal(parseSchedulerConfig(pndm, { as: 'DDIMScheduler', pipeline: 'sdxl' }).config.clipSample, true);

  const euler = parseSchedulerConfig({ _class_name: 'EulerDiscreteScheduler' }).config;
  t.match(euler, { timestepSpacing: 'linspace', finalSigmasType: 'zero' });
  t.equal(parseSchedulerConfig({ _class_name: 'DDIMScheduler' }).config.setAlphaToOne, true);
});

t.test('scheduler configs that cannot be honoured are refused by name', async (t) => {
  const refuse = (json: unknown, pattern: RegExp): void => {
    t.throws(() => parseSchedulerConfig(json), pattern);
  };
  refuse(null, /scheduler_config\.json: expected a JSON object/);
  refuse({}, /missing.*DDPMScheduler/);
  refuse({ _class_name: 'UniPCMultistepScheduler' }, /UniPCMultistepScheduler.*not supported/);
  refuse({ _class_name: 'PNDMScheduler' }, /skip_prk_steps.*expected true/);
  refuse(
    { _class_name: 'PNDMScheduler', skip_prk_steps: true, prediction_type: 'sample' },
    /prediction_type/,
  );
  refuse({ _class_name: 'DDPMScheduler', thresholding: true }, /thresholding/);
  refuse({ _class_name: 'DDPMScheduler', variance_type: 'learned' }, /variance_type/);
  refuse({ _class_name: 'DDPMScheduler', beta_start: '0.1' }, /beta_start.*a number/);
  refuse({ _class_name: 'EulerDiscreteScheduler', use_karras_sigmas: true }, /use_karras_sigmas/);
  refuse({ _class_name: 'EulerDiscreteScheduler', timestep_type: 'continuous' }, /timestep_type/);
  refuse({ _class_name: 'DDIMScheduler', steps_offset: -1 }, /steps_offset/);
});
