/** MI-TUNE on the embedded model: score its own pictures, tune on the best, compare with pictures taken at random. */
import { join } from 'node:path';
import { type AdapterConfig, ATTENTION_TARGETS } from '@equipoise/adapters';
import { invalid, type JobContext, PhiloxSequence, streamId } from '@equipoise/core';
import { type Estimate, kendallTauB, meanWithInterval } from '@equipoise/metrics';
import {
  buildSet,
  decoderOf,
  FINE_TUNE_DEFAULTS,
  type FineTuneLog,
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
  readonly tuneSteps: number;
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
  /** Candidates of the training prompts that the judge finds right: of all, and of those that MI chose. */
  readonly rightAmongAll: number;
  readonly rightAmongChosen: number;
  /** Kendall's tau-b between a candidate's MI, relative to its prompt's mean, and the judge's verdict. */
  readonly agreement: number;
  readonly pairsPerSecond: number;
}

const PICTURES_PER_TEST_PROMPT = 4;
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
  const { parts } = embedded;
  const { seed, steps, guidance } = settings;
  const { training, test } = splitPrompts(settings);
  const texts = training.map(({ text }) => text);
  const sampling: SamplingOptions = { seed, steps, guidance };
  const started = performance.now();
  const rows = await sweep(
    {
      folder: join(folder, 'sweep'),
      parts,
      options: { ...sampling, prompts: texts, candidates: settings.candidates, batch: 32 },
    },
    context,
  );
  const pairsPerSecond = rows.length / ((performance.now() - started) / 1000);
  const chosen = topCandidates(rows, 1);
  const verdicts = await judgeCandidates(embedded, training, rows, sampling, context);
  const base = await evaluate(embedded, 'base model', test, sampling, [], context);
  const random = await tuned(
    embedded,
    join(folder, 'random'),
    'random choice',
    selectCandidates(rows, 1, { by: 'random', seed }),
    test,
    sampling,
    settings,
    context,
  );
  const best = await tuned(
    embedded,
    join(folder, 'chosen'),
    'MI-TUNE',
    chosen,
    test,
    sampling,
    settings,
    context,
  );
  const share = (some: readonly SweepRow[]): number =>
    some.reduce((sum, row) => sum + (verdicts.get(row) === true ? 1 : 0), 0) / some.length;
  return {
    results: [base, random, best],
    testPrompts: test,
    rightAmongAll: share(rows),
    rightAmongChosen: share(chosen),
    agreement: agreementOf(rows, verdicts),
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

/** The judge's verdict on every candidate's finished picture. */
async function judgeCandidates(
  embedded: Embedded,
  prompts: readonly ScenePrompt[],
  rows: readonly SweepRow[],
  sampling: SamplingOptions,
  context: JobContext,
): Promise<Map<SweepRow, boolean>> {
  const byText = new Map(prompts.map((prompt) => [prompt.text, prompt]));
  const verdicts = new Map<SweepRow, boolean>();
  for (let start = 0; start < rows.length; start += 32) {
    const part = rows.slice(start, start + 32);
    const images = await draw(embedded, part, sampling, context);
    const found = await findScenes(
      embedded.judges.scene,
      part.map(({ prompt }) => byText.get(prompt) as ScenePrompt),
      packed(images),
    );
    for (const [i, row] of part.entries()) verdicts.set(row, found[i]?.bound === true);
    context.onProgress?.({
      task: 'judge candidates',
      done: start + part.length,
      total: rows.length,
      unit: 'image',
    });
  }
  return verdicts;
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

function agreementOf(rows: readonly SweepRow[], verdicts: ReadonlyMap<SweepRow, boolean>): number {
  const means = new Map<string, number>();
  for (const { prompt } of rows) {
    if (means.has(prompt)) continue;
    const own = rows.filter((row) => row.prompt === prompt);
    means.set(prompt, own.reduce((sum, { mi }) => sum + mi, 0) / own.length);
  }
  return kendallTauB(
    rows.map((row) => row.mi / (means.get(row.prompt) as number)),
    rows.map((row) => (verdicts.get(row) === true ? 1 : 0)),
  );
}

async function tuned(
  embedded: Embedded,
  folder: string,
  name: string,
  chosen: readonly SweepRow[],
  test: readonly ScenePrompt[],
  sampling: SamplingOptions,
  settings: MiTuneSettings,
  context: JobContext,
): Promise<TunedResult> {
  const { parts, pipeline } = embedded;
  const decode = decoderOf(pipeline);
  await buildSet(join(folder, 'set'), parts, { chosen }, sampling, { batch: 32, decode }, context);
  const options = {
    ...FINE_TUNE_DEFAULTS,
    learningRate: 1e-3,
    batch: 16,
    accumulation: 1,
    steps: settings.tuneSteps,
    seed: settings.seed,
  };
  const { adapter, log } = await tuneJob(
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
  try {
    return await evaluate(embedded, name, test, sampling, log, context);
  } finally {
    adapter.remove();
  }
}

async function evaluate(
  embedded: Embedded,
  name: string,
  test: readonly ScenePrompt[],
  sampling: SamplingOptions,
  log: readonly FineTuneLog[],
  context: JobContext,
): Promise<TunedResult> {
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
  return { name, right: meanWithInterval(right, { seed: sampling.seed }), images, log };
}
