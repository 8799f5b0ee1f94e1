/** What the commands of MI-TUNE share: the model with an adapter on it, how candidates are drawn, who scores them. */
import { type AdapterGroup, loadAdapter } from '@equipoise/adapters';
import { describe, invalid, type JobContext, option, z } from '@equipoise/core';
import { type SamplerName, samplerClasses, type TextToImagePipeline } from '@equipoise/diffusion';
import { loadClip } from '@equipoise/iti-gen';
import {
  type AlignmentScorer,
  type DiffusionParts,
  decoderOf,
  ESTIMATORS,
  encoderOf,
  externalScorer,
  openParts,
  PICTURE_MI_DEFAULTS,
  type PictureScores,
  pictureMiScorer,
  readPrompts,
  type SamplingOptions,
  truncatedPrompts,
  WEIGHTINGS,
  type Weighting,
} from '@equipoise/mi-tune';
import { hashWeights } from '@equipoise/weights';
import { parseScorer, wantsPictureMi } from './checks.js';
import { clipScorer } from './scorers.js';

const SAMPLERS = Object.keys(samplerClasses) as [SamplerName, ...SamplerName[]];

export const modelOptions = {
  model: option(z.string(), 'Pipeline folder (diffusers).', { placeholder: 'folder' }),
  sampler: option(z.enum(SAMPLERS).default('ddpm'), 'Sampler of the pictures.', {
    group: 'Sampling',
  }),
};

export const PROMPT_FILE =
  'Prompt file: one prompt per line. Blank lines, repetitions and what follows a tab do not count.';

export const adapterOption = {
  adapter: option(z.string().optional(), 'Adapter to put on the model, for instance of the previous round.', {
    placeholder: 'folder',
  }),
};

export const samplingOptions = {
  steps: option(z.int().min(1).max(1000).default(50), 'Denoising steps.', { group: 'Sampling' }),
  guidance: option(z.number().min(1).max(100).default(7.5), 'Guidance scale.', { group: 'Sampling' }),
  weighting: option(
    z.enum(WEIGHTINGS).default('paper'),
    "Weight of a timestep: with the paper's alpha_t, or without it as in the published code.",
    { group: 'Sampling' },
  ),
  truncation: option(z.int().min(0).max(998).default(50), 'Timesteps at or below it do not count.', {
    group: 'Sampling',
  }),
  seed: option(z.int().min(0).default(42), 'Candidate m uses seed + m.', { group: 'Sampling' }),
  batch: option(z.int().min(1).default(16), 'Pictures sampled together, across prompts.', {
    group: 'Sampling',
  }),
};

export const scorerOptions = {
  clip: option(z.string().optional(), 'CLIP folder (transformers): also record CLIPScore, as `clip`.', {
    placeholder: 'folder',
    group: 'Scores',
  }),
  scorer: option(
    z.array(z.string()).default([]),
    'Another judge, as NAME=COMMAND: a program that gets a file of picture-prompt pairs and prints a number for each.',
    { whole: true, group: 'Scores' },
  ),
  pictureMi: option(
    z.boolean().default(false),
    "Also record the finished pictures' mutual information with their prompts, as `picture_mi`.",
    { group: 'Scores' },
  ),
  pictureEstimator: option(
    z.enum(ESTIMATORS).default(PICTURE_MI_DEFAULTS.estimator),
    "Form of picture_mi's terms: see `mi estimate --estimator`.",
    { group: 'Scores' },
  ),
  pictureDraws: option(
    z.int().min(1).default(PICTURE_MI_DEFAULTS.draws),
    'Timesteps at which a finished picture is scored, the same for all.',
    { group: 'Scores' },
  ),
  pictureAbove: option(
    z.int().min(0).max(998).default(PICTURE_MI_DEFAULTS.truncation),
    'They lie above this timestep.',
    { group: 'Scores' },
  ),
};

/** The sampling part of a command's options. */
export function samplingOf({
  seed,
  steps,
  guidance,
  weighting,
  truncation,
}: Required<SamplingOptions>): SamplingOptions {
  return { seed, steps, guidance, weighting, truncation };
}

export interface OpenModel {
  readonly parts: DiffusionParts;
  readonly pipeline: TextToImagePipeline;
  readonly adapter: AdapterGroup | undefined;
  /** Of the adapter's files; '' without one. */
  readonly adapterHash: string;
}

/** Opens a pipeline folder and puts an adapter on it. */
export async function openModel(
  { model, sampler, adapter }: { model: string; sampler?: SamplerName; adapter?: string | undefined },
  context: JobContext,
): Promise<OpenModel> {
  const { parts, pipeline } = await openParts(model, { sampler, ...context });
  if (adapter === undefined) return { parts, pipeline, adapter: undefined, adapterHash: '' };
  const models = { unet: parts.unet, text_encoder: parts.textEncoder };
  const loaded = await loadAdapter(adapter, models, { ...context, name: adapter });
  return { parts, pipeline, adapter: loaded, adapterHash: await hashWeights(adapter) };
}

type ScorerOptions = {
  [K in Exclude<keyof typeof scorerOptions, 'clip'>]: z.output<(typeof scorerOptions)[K]>;
} & { readonly clip?: string | undefined; readonly weighting: Weighting } & Partial<
    Record<'select' | 'choose', string>
  >;

/** The judges that a command line asks for. */
export async function openScorers(
  options: ScorerOptions,
  { parts, pipeline }: Pick<OpenModel, 'parts' | 'pipeline'>,
): Promise<AlignmentScorer[]> {
  const { clip, scorer, pictureEstimator, pictureDraws, pictureAbove, weighting } = options;
  const scorers: AlignmentScorer[] = [];
  if (wantsPictureMi(options))
    scorers.push(
      pictureMiScorer(parts, encoderOf(pipeline, parts), {
        estimator: pictureEstimator,
        draws: pictureDraws,
        truncation: pictureAbove,
        weighting,
      }),
    );
  if (clip !== undefined) scorers.push(clipScorer(await loadClip(clip)));
  for (const text of scorer) {
    const { name, command } = parseScorer(text);
    scorers.push(externalScorer(name, command));
  }
  return scorers;
}

/** What a sweep needs to score finished pictures; undefined when nobody asked for it. */
export function picturesOf(
  pipeline: TextToImagePipeline,
  scorers: readonly AlignmentScorer[],
  keep = false,
): PictureScores | undefined {
  return scorers.length === 0 && !keep ? undefined : { scorers, decode: decoderOf(pipeline), keep };
}

/** Reads a prompt file and says what was repeated. */
export async function promptsOf(file: string, note: (line: string) => void): Promise<readonly string[]> {
  const { prompts, duplicates } = await readPrompts(file);
  if (duplicates > 0)
    note(`${file}: ${duplicates} repeated ${duplicates === 1 ? 'prompt is' : 'prompts are'} scored once`);
  return prompts;
}

/** Says which prompts the model does not read to the end. */
export function noteTruncated(
  prompts: readonly string[],
  { parts }: Pick<OpenModel, 'parts'>,
  note: (line: string) => void,
): void {
  const [first, ...others] = truncatedPrompts(parts, prompts);
  if (first === undefined) return;
  const more = others.length === 0 ? '' : ` and ${others.length} more`;
  note(`longer than the model reads, so that the end changes nothing: ${describe(first)}${more}`);
}

/** `i/n` with i from 1. */
export function shardOf(text: string): { index: number; count: number } {
  const [index, count] = text.split('/').map(Number) as [number, number];
  if (!(index >= 1 && index <= count)) throw invalid('--shard', 'i/n with i from 1 to n', text);
  return { index: index - 1, count };
}
