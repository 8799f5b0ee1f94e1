/**
 * scheduler_config.json: what diffusers writes beside a model, read with the class's own defaults
 * for the keys that are absent. Options that this package does not have are refused by name.
 */
import { EquipoiseError, invalid } from '@equipoise/core';
import type { BetaSchedule } from './schedule.js';
import type { TimestepSpacing } from './timesteps.js';

export type PredictionType = 'epsilon' | 'v_prediction' | 'sample';

export const schedulerClasses = [
  'DDPMScheduler',
  'DDIMScheduler',
  'PNDMScheduler',
  'EulerDiscreteScheduler',
] as const;
export type SchedulerClass = (typeof schedulerClasses)[number];

/** A scheduler's settings with every default filled in. */
export interface SchedulerConfig {
  className: SchedulerClass;
  numTrainTimesteps: number;
  betaStart: number;
  betaEnd: number;
  betaSchedule: BetaSchedule;
  trainedBetas: readonly number[] | null;
  predictionType: PredictionType;
  timestepSpacing: TimestepSpacing;
  stepsOffset: number;
  /** DDPM, DDIM: clamp the predicted image to +-clipSampleRange. */
  clipSample: boolean;
  clipSampleRange: number;
  /** DDIM, PNDM: the signal level before the first timestep is 1 rather than that of timestep 0. */
  setAlphaToOne: boolean;
  rescaleBetasZeroSnr: boolean;
  /** DDPM: which of the two variance bounds. */
  varianceType: 'fixed_small' | 'fixed_large';
  /** Euler: the noise level after the last step. */
  finalSigmasType: 'zero' | 'sigma_min';
}

export interface ParsedScheduler {
  config: SchedulerConfig;
  /** Keys that the class does not know; they have no effect. */
  ignored: string[];
  /** What {@link ParseSchedulerOptions.pipeline} changed, in words. */
  corrections: string[];
}

export interface ParseSchedulerOptions {
  /** Where the JSON came from, for messages. */
  source?: string;
  /** Load as this class instead of the one in the file. */
  as?: SchedulerClass;
  /** Apply what StableDiffusionPipeline's constructor does: steps_offset 1 and no clipping. */
  pipeline?: 'sd' | 'sdxl';
}

type Json = Record<string, unknown>;

/** One key of a config: its check, and a default for each class that has it. */
interface Field {
  expected: string;
  accepts: (value: unknown) => boolean;
  defaults: Partial<Record<SchedulerClass, unknown>>;
}

const every = (value: unknown): Field['defaults'] =>
  Object.fromEntries(schedulerClasses.map((name) => [name, value]));
const isNumber = (value: unknown): boolean => typeof value === 'number' && Number.isFinite(value);
const isBoolean = (value: unknown): boolean => typeof value === 'boolean';
const oneOf = (...values: unknown[]): Pick<Field, 'expected' | 'accepts'> => ({
  expected: values.map((value) => JSON.stringify(value)).join(' or '),
  accepts: (value) => values.includes(value),
});
const number = { expected: 'a number', accepts: isNumber };
const flag = { expected: 'true or false', accepts: isBoolean };
const off = oneOf(false, null);

/** Defaults by class: diffusers' constructor signatures. */
const fields: Record<string, Field> = {
  num_train_timesteps: {
    expected: 'an integer from 1 to 1000000',
    accepts: (value) => Number.isInteger(value) && (value as number) >= 1 && (value as number) <= 1e6,
    defaults: every(1000),
  },
  beta_start: { ...number, defaults: every(0.0001) },
  beta_end: { ...number, defaults: every(0.02) },
  beta_schedule: {
    ...oneOf('linear', 'scaled_linear', 'squaredcos_cap_v2'),
    defaults: every('linear'),
  },
  trained_betas: {
    expected: 'an array of numbers or null',
    accepts: (value) => value === null || (Array.isArray(value) && value.every(isNumber)),
    defaults: every(null),
  },
  prediction_type: {
    ...oneOf('epsilon', 'v_prediction', 'sample'),
    defaults: every('epsilon'),
  },
  timestep_spacing: {
    ...oneOf('leading', 'trailing', 'linspace'),
    defaults: { ...every('leading'), EulerDiscreteScheduler: 'linspace' },
  },
  steps_offset: {
    expected: 'an integer >= 0',
    accepts: (value) => Number.isInteger(value) && (value as number) >= 0,
    defaults: every(0),
  },
  clip_sample: { ...flag, defaults: { DDPMScheduler: true, DDIMScheduler: true } },
  clip_sample_range: { ...number, defaults: { DDPMScheduler: 1, DDIMScheduler: 1 } },
  set_alpha_to_one: { ...flag, defaults: { DDIMScheduler: true, PNDMScheduler: false } },
  rescale_betas_zero_snr: {
    ...flag,
    defaults: { DDPMScheduler: false, DDIMScheduler: false, EulerDiscreteScheduler: false },
  },
  variance_type: {
    ...oneOf('fixed_small', 'fixed_small_log', 'fixed_large'),
    defaults: { DDPMScheduler: 'fixed_small' },
  },
  final_sigmas_type: { ...oneOf('zero', 'sigma_min'), defaults: { EulerDiscreteScheduler: 'zero' } },
  skip_prk_steps: { ...oneOf(true), defaults: { PNDMScheduler: false } },
  thresholding: { ...off, defaults: { DDPMScheduler: false, DDIMScheduler: false } },
  dynamic_thresholding_ratio: { ...number, defaults: { DDPMScheduler: 0.995, DDIMScheduler: 0.995 } },
  sample_max_value: { ...number, defaults: { DDPMScheduler: 1, DDIMScheduler: 1 } },
  interpolation_type: { ...oneOf('linear'), defaults: { EulerDiscreteScheduler: 'linear' } },
  use_karras_sigmas: { ...off, defaults: { EulerDiscreteScheduler: false } },
  use_exponential_sigmas: { ...off, defaults: { EulerDiscreteScheduler: false } },
  use_beta_sigmas: { ...off, defaults: { EulerDiscreteScheduler: false } },
  sigma_min: { ...oneOf(null), defaults: { EulerDiscreteScheduler: null } },
  sigma_max: { ...oneOf(null), defaults: { EulerDiscreteScheduler: null } },
  timestep_type: { ...oneOf('discrete'), defaults: { EulerDiscreteScheduler: 'discrete' } },
};

function schedulerClass(json: Json, source: string, as: SchedulerClass | undefined): SchedulerClass {
  const name = as ?? json['_class_name'];
  if (schedulerClasses.includes(name as SchedulerClass)) return name as SchedulerClass;
  throw new EquipoiseError(
    'unsupported',
    `${source}: scheduler class ${JSON.stringify(name) ?? 'missing'} is not supported; ` +
      `choose one of ${schedulerClasses.join(', ')}`,
  );
}

/** The class's fields: from the file, else the class's default; each checked. */
function readFields(json: Json, name: SchedulerClass, source: string): Json {
  const values: Json = {};
  for (const [key, field] of Object.entries(fields)) {
    if (!(name in field.defaults)) continue;
    const value = key in json ? json[key] : field.defaults[name];
    if (!field.accepts(value)) throw invalid(`${source}: ${key} (${name})`, field.expected, value);
    values[key] = value;
  }
  if (name === 'PNDMScheduler' && values['prediction_type'] === 'sample') {
    throw invalid(`${source}: prediction_type (${name})`, '"epsilon" or "v_prediction"', 'sample');
  }
  return values;
}

/** StableDiffusionPipeline overrides two values that old configs have wrong (not so SDXL's). */
function correct(values: Json): string[] {
  const corrections: string[] = [];
  if (values['steps_offset'] !== 1) {
    corrections.push(`steps_offset ${String(values['steps_offset'])} -> 1`);
    values['steps_offset'] = 1;
  }
  if (values['clip_sample'] === true) {
    corrections.push('clip_sample true -> false');
    values['clip_sample'] = false;
  }
  return corrections;
}

/**
 * Reads a parsed scheduler_config.json.
 * @throws EquipoiseError for an unknown class, a wrong type, or an option this package lacks
 */
export function parseSchedulerConfig(json: unknown, options: ParseSchedulerOptions = {}): ParsedScheduler {
  const source = options.source ?? 'scheduler_config.json';
  if (typeof json !== 'object' || json === null || Array.isArray(json)) {
    throw invalid(source, 'a JSON object', json);
  }
  const object = json as Json;
  const className = schedulerClass(object, source, options.as);
  const values = readFields(object, className, source);
  const corrections = options.pipeline === 'sd' ? correct(values) : [];
  const ignored = Object.keys(object).filter((key) => !(key in values) && !key.startsWith('_'));
  return { config: toConfig(className, values), ignored, corrections };
}

function toConfig(className: SchedulerClass, values: Json): SchedulerConfig {
  return {
    className,
    numTrainTimesteps: values['num_train_timesteps'] as number,
    betaStart: values['beta_start'] as number,
    betaEnd: values['beta_end'] as number,
    betaSchedule: values['beta_schedule'] as BetaSchedule,
    trainedBetas: values['trained_betas'] as number[] | null,
    predictionType: values['prediction_type'] as PredictionType,
    timestepSpacing: values['timestep_spacing'] as TimestepSpacing,
    stepsOffset: values['steps_offset'] as number,
    clipSample: (values['clip_sample'] as boolean | undefined) ?? false,
    clipSampleRange: (values['clip_sample_range'] as number | undefined) ?? 1,
    setAlphaToOne: (values['set_alpha_to_one'] as boolean | undefined) ?? false,
    rescaleBetasZeroSnr: (values['rescale_betas_zero_snr'] as boolean | undefined) ?? false,
    varianceType: values['variance_type'] === 'fixed_large' ? 'fixed_large' : 'fixed_small',
    finalSigmasType: (values['final_sigmas_type'] as 'zero' | 'sigma_min' | undefined) ?? 'zero',
  };
}
