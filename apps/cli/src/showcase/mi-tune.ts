/** MI-TUNE on the embedded model: score its own pictures, tune on the best, compare with pictures taken at random. */
import { join } from 'node:path';
import { type AdapterConfig, ATTENTION_TARGETS } from '@equipoise/adapters';
import { invalid, type JobContext, PhiloxSequence, sha256Json, streamId } from '@equipoise/core';
import { type Estimate, meanWithInterval } from '@equipoise/metrics';
import {
  type AlignmentScorer,
  agreementOf,
  buildSet,
  decoderOf,
  encoderOf,
  FINE_TUNE_DEFAULTS,
  type FineTuneLog,
  PICTURE_MI,
  pictureMiScorer,
  rowsByPrompt,
  type SamplingOptions,
  type SweepRow,
  sampleCandidates,
  selectCandidates,
  sweep,
  topCandidates,
  tuneJob,
} from '@equipoise/mi-tune';
import type { RgbImage } from '@equipoise/models';
import { bindingPrompts, findScenes, type ScenePrompt, singlePrompts } from '@equipoise/tiny-world';
import { hashFolder } from '@equipoise/weights';
import { type Embedded, packed } from './model.js';

/** What the prompts ask for: one object with its color, or two with a color each. */
export type PromptSuite = 'single' | 'binding';

export interface MiTuneSettings {
  readonly suite: PromptSuite;
  readonly prompts: number;
  readonly candidates: number;
  readonly testPrompts: number;
  readonly steps: number;
  readonly guidance: number;
  readonly updates: number;
  readonly seed: number;
}

export interface TunedResult {
  readonly name: string;
  /** Share of test pictures with every object as asked for, with a bootstrap interval over pictures. */
  readonly right: Estimate;
  readonly images: readonly RgbImage[];
  readonly log: readonly FineTuneLog[];
}

export interface MiTuneResult {
  readonly results: readonly TunedResult[];
  readonly testPrompts: readonly ScenePrompt[];
  /**
   * Candidates of the training prompts that the judge finds right: of all, of those that the MI of finished pictures
   * chose, and of those that MI summed in the sampling loop would choose.
   */
  readonly rightAmongAll: number;
  readonly rightAmongChosen: number;
  readonly rightAmongLoop: number;
  /** Kendall's tau-b between either MI and the judge's verdict within a prompt, mean over prompts. */
  readonly agreement: number;
  readonly loopAgreement: number;
  readonly pairsPerSecond: number;
}

const PICTURES_PER_TEST_PROMPT = 4;
/** Below this timestep the embedded model's terms tell right pictures from wrong ones badly or not at all. */
const PICTURES_ABOVE = 550;
const ADAPTER: AdapterConfig = {
  kind: 'dora',
  rank: 8,
  alpha: 8,
  init: 'gaussian',
  targets: ATTENTION_TARGETS,
};

/** The whole comparison; everything is kept in `folder` and reused. */
export async function runMiTune(
  embedded: Embedded,
  folder: string,
  settings: MiTuneSettings,
  context: JobContext,
): Promise<MiTuneResult> {
  const { seed } = settings;
  const { training, test } = splitPrompts(settings);
  const started = performance.now();
  const rows = await scoreCandidates(embedded, join(folder, 'sweep'), training, settings, context);
  const pairsPerSecond = rows.length / ((performance.now() - started) / 1000);
  const chosen = selectCandidates(rows, 1, { by: 'score', name: PICTURE_MI });
  const tuneOn = async (name: string, to: string, examples: readonly SweepRow[]): Promise<TunedResult> => {
    const { adapter, log } = await tune(embedded, join(folder, to), examples, settings, context);
    try {
      return { ...(await evaluate(embedded, name, test, settings, context)), log };
    } finally {
      adapter.remove();
    }
  };
  const base = { ...(await evaluate(embedded, 'base model', test, settings, context)), log: [] };
  const random = await tuneOn('random choice', 'random', selectCandidates(rows, 1, { by: 'random', seed }));
  const best = await tuneOn('MI-TUNE', 'chosen', chosen);
  const share = (some: readonly SweepRow[]): number =>
    some.reduce((sum, { scores }) => sum + (scores.bound as number), 0) / some.length;
  return {
    results: [base, random, best],
    testPrompts: test,
    rightAmongAll: share(rows),
    rightAmongChosen: share(chosen),
    rightAmongLoop: share(topCandidates(rows, 1)),
    agreement: tauOf(rows, PICTURE_MI),
    loopAgreement: tauOf(rows, 'mi'),
    pairsPerSecond,
  };
}

/** Distinct prompts to tune on, and others to test on. */
function splitPrompts({ suite, prompts, testPrompts, seed }: MiTuneSettings): {
  training: ScenePrompt[];
  test: ScenePrompt[];
} {
  const wanted = prompts + testPrompts;
  // All 64 single prompts there are, in an order of the seed's; pairs are drawn until there are enough different ones.
  const pool =
    suite === 'single'
      ? new PhiloxSequence(seed, streamId('showcase', 'prompts')).shuffle(singlePrompts(64))
      : bindingPrompts(seed, 2 * wanted);
  const distinct = [...new Map(pool.map((prompt) => [prompt.text, prompt])).values()];
  if (distinct.length < wanted)
    throw invalid('prompts and test-prompts', `at most ${distinct.length} together`, wanted);
  return { training: distinct.slice(0, prompts), test: distinct.slice(prompts, wanted) };
}

const samplingOf = ({ seed, steps, guidance }: MiTuneSettings): SamplingOptions => ({
  seed,
  steps,
  guidance,
});

/** The candidates of the training prompts with both kinds of MI and the judge's verdict. */
async function scoreCandidates(
  embedded: Embedded,
  folder: string,
  training: readonly ScenePrompt[],
  settings: MiTuneSettings,
  context: JobContext,
): Promise<SweepRow[]> {
  const { parts, pipeline } = embedded;
  const prompts = training.map(({ text }) => text);
  return sweep(
    {
      folder,
      parts,
      options: { ...samplingOf(settings), prompts, candidates: settings.candidates, batch: 32 },
      pictures: {
        scorers: [
          pictureMiScorer(parts, encoderOf(pipeline, parts), { truncation: PICTURES_ABOVE }),
          await sceneScorer(embedded, training),
        ],
        decode: decoderOf(pipeline),
      },
    },
    context,
  );
}

/** 1 where the scene judge finds every object as the prompt asks for it. */
async function sceneScorer(
  { judges, weights }: Embedded,
  prompts: readonly ScenePrompt[],
): Promise<AlignmentScorer> {
  const byText = new Map(prompts.map((prompt) => [prompt.text, prompt]));
  return {
    name: 'bound',
    hash: sha256Json({ judges: await hashFolder(join(weights, 'judges')), version: 1 }),
    async score(images, texts) {
      const wanted = texts.map((text) => byText.get(text) as ScenePrompt);
      const found = await findScenes(judges.scene, wanted, packed(images));
      return found.map(({ bound }) => (bound ? 1 : 0));
    },
  };
}

async function draw(
  { parts, pipeline }: Embedded,
  requests: readonly { prompt: string; candidate: number }[],
  sampling: SamplingOptions,
  context: JobContext,
): Promise<RgbImage[]> {
  const { latents } = await sampleCandidates(parts, requests, sampling, true, { signal: context.signal });
  try {
    return await pipeline.decode(latents);
  } finally {
    latents.dispose();
  }
}

function tauOf(rows: readonly SweepRow[], measure: string): number {
  const [pair] = agreementOf([...rowsByPrompt(rows).values()], [measure, 'bound']);
  return pair?.tau?.value ?? Number.NaN;
}

/** Makes the chosen candidates a set and tunes an adapter on it, which is attached afterwards. */
async function tune(
  { parts, pipeline }: Embedded,
  folder: string,
  chosen: readonly SweepRow[],
  settings: MiTuneSettings,
  context: JobContext,
): ReturnType<typeof tuneJob> {
  const how = { batch: 32, decode: decoderOf(pipeline) };
  await buildSet(join(folder, 'set'), parts, { chosen }, samplingOf(settings), how, context);
  const options = {
    ...FINE_TUNE_DEFAULTS,
    learningRate: 1e-3,
    decay: 'linear' as const,
    lowestTimestep: 500,
    batch: 16,
    accumulation: 1,
    updates: settings.updates,
    seed: settings.seed,
  };
  return tuneJob(
    {
      folder: join(folder, 'tune'),
      parts,
      set: join(folder, 'set'),
      adapter: ADAPTER,
      options,
      checkpointEvery: 25,
    },
    context,
  );
}

async function evaluate(
  embedded: Embedded,
  name: string,
  test: readonly ScenePrompt[],
  settings: MiTuneSettings,
  context: JobContext,
): Promise<Omit<TunedResult, 'log'>> {
  const sampling = samplingOf(settings);
  const wanted = Array.from({ length: PICTURES_PER_TEST_PROMPT }, () => test).flat();
  const images: RgbImage[] = [];
  for (let start = 0; start < wanted.length; start += 32) {
    // Candidate numbers far from those of the sweep: no test picture shares its noise with a training picture.
    const requests = wanted
      .slice(start, start + 32)
      .map(({ text }, i) => ({ prompt: text, candidate: 1_000_000 + start + i }));
    images.push(...(await draw(embedded, requests, sampling, context)));
    context.onProgress?.({
      task: `test pictures, ${name}`,
      done: images.length,
      total: wanted.length,
      unit: 'image',
    });
  }
  const found = await findScenes(embedded.judges.scene, wanted, packed(images));
  const right = found.map(({ bound }) => (bound ? 1 : 0));
  return { name, right: meanWithInterval(right, { seed: sampling.seed }), images };
}
