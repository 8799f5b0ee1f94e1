/** Runs the study's cells; what is there already is kept, so that a killed study goes on. */
import { join } from 'node:path';
import { loadAdapter } from '@equipoise/adapters';
import { exists, type JobContext, makeFolder, sha256, writeFileAtomic } from '@equipoise/core';
import { encodePng } from '@equipoise/diffusion';
import {
  type AlignmentScorer,
  type CaptionedImage,
  decoderOf,
  type EvaluationPrompt,
  encoderOf,
  evaluate,
  FINE_TUNE_DEFAULTS,
  type PictureScores,
  pictureMiScorer,
  type RealImage,
  readEvaluation,
  readSweep,
  runRounds,
  type SamplingOptions,
  type SharedSweep,
  type SweepRow,
  scoreRealImages,
  sweep,
  sweepRows,
} from '@equipoise/mi-tune';
import {
  drawPrompt,
  IMAGE_BYTES,
  IMAGE_SIZE,
  renderImages,
  type SuitePrompt,
  suitePrompts,
} from '@equipoise/tiny-world';
import { hashFolder } from '@equipoise/weights';
import { clipScorer, suiteScorer } from '../mi-tune/scorers.js';
import type { Embedded } from '../showcase/model.js';
import {
  adaptersOfCell,
  poolOf,
  REAL_DRAWS,
  type StudyCell,
  type StudySettings,
  selectionOf,
  studyCells,
} from './plan.js';

/** Pictures of one model under the test prompts. */
export interface StudyModel {
  readonly name: string;
  /** `base`, a cell's key, or key and round: `pictures-2`. */
  readonly key: string;
  readonly rows: readonly SweepRow[];
}

export interface StudySeed {
  readonly seed: number;
  readonly models: readonly StudyModel[];
  /** All candidates of the base model, with all scores. */
  readonly pool: readonly SweepRow[];
  /** Folder of the base model's and the cells' pictures. */
  readonly folder: string;
}

interface SeedContext {
  readonly embedded: Embedded;
  readonly settings: StudySettings;
  readonly seed: number;
  readonly folder: string;
  readonly training: readonly SuitePrompt[];
  readonly tests: readonly EvaluationPrompt[];
  /** Of candidates and test pictures. */
  readonly scorers: readonly AlignmentScorer[];
  /** By the mutual information of finished pictures: of candidates. */
  readonly pictureMi: AlignmentScorer;
}

/** Test prompts are the same for all seeds; training prompts are drawn by seed and never among them. */
const TEST_SEED = 7_001;
/** Test pictures start from other noise than candidates. */
const TEST_NOISE = 5_000_000;

export function testPromptsOf({ categories, testPrompts }: StudySettings): SuitePrompt[] {
  return categories.flatMap((category) => suitePrompts(category, TEST_SEED, testPrompts));
}

function trainingPromptsOf(
  { categories, trainCategories = categories, trainPrompts, testPrompts }: StudySettings,
  seed: number,
): SuitePrompt[] {
  return trainCategories.flatMap((category) => {
    const held = new Set(suitePrompts(category, TEST_SEED, testPrompts).map(({ text }) => text));
    return suitePrompts(category, seed, trainPrompts + testPrompts)
      .filter(({ text }) => !held.has(text))
      .slice(0, trainPrompts);
  });
}

const samplingOf = ({ steps, guidance }: StudySettings, seed: number): SamplingOptions => ({
  seed: 100_000 * seed,
  steps,
  guidance,
});

/** Runs what is missing of one seed. */
export async function runSeed(
  embedded: Embedded,
  folder: string,
  settings: StudySettings,
  seed: number,
  context: JobContext,
): Promise<StudySeed> {
  const training = trainingPromptsOf(settings, seed);
  const tests = testPromptsOf(settings);
  const scorers = [
    clipScorer(embedded.clip),
    await suiteScorer([...training, ...tests], embedded.weights, embedded.judges),
  ];
  const own: SeedContext = {
    embedded,
    settings,
    seed,
    folder: join(folder, `seed-${seed}`),
    training,
    tests: tests.map(({ text, category }) => ({ prompt: text, category })),
    scorers,
    pictureMi: pictureMiScorer(embedded.parts, encoderOf(embedded.pipeline, embedded.parts), {
      draws: settings.pictureDraws,
      truncation: settings.pictureAbove,
    }),
  };
  const pictures = picturesOf(own, [own.pictureMi, ...scorers]);
  const pool: SharedSweep = { folder: join(own.folder, 'pool'), candidates: poolOf(settings), pictures };
  const rows = await poolRows(own, pool, context);
  const models = [await testModel(own, { name: 'base model', key: 'base' }, undefined, context)];
  const real = settings.realFractions.length > 0 ? await realImages(own, context) : [];
  for (const cell of studyCells(settings)) models.push(...(await runCell(own, cell, pool, real, context)));
  return { seed, models, pool: rows, folder: own.folder };
}

function picturesOf({ embedded }: SeedContext, scorers: readonly AlignmentScorer[]): PictureScores {
  return { scorers, decode: decoderOf(embedded.pipeline) };
}

async function poolRows(own: SeedContext, pool: SharedSweep, context: JobContext): Promise<SweepRow[]> {
  const { embedded, settings, seed, training } = own;
  const stored = await readSweep(pool.folder).catch(() => undefined);
  if (stored?.missing.length === 0 && stored.record.status === 'finished') return sweepRows(stored);
  return sweep(
    {
      folder: pool.folder,
      parts: embedded.parts,
      options: {
        ...samplingOf(settings, seed),
        prompts: training.map(({ text }) => text),
        candidates: pool.candidates,
        batch: settings.batch,
      },
      pictures: pool.pictures,
    },
    context,
  );
}

/** Drawn pictures of the training prompts, scored by MI: what a captioned data set is in this world. */
async function realImages(own: SeedContext, context: JobContext): Promise<RealImage[]> {
  const { embedded, settings, seed, training } = own;
  const folder = join(own.folder, 'real');
  await makeFolder(folder);
  const wanted = training.flatMap((prompt) => Array.from({ length: settings.realPerPrompt }, () => prompt));
  const bytes = await renderImages(wanted.map((prompt, i) => drawPrompt(prompt, seed, i)));
  const images: CaptionedImage[] = [];
  for (const [i, prompt] of wanted.entries()) {
    const data = bytes.slice(i * IMAGE_BYTES, (i + 1) * IMAGE_BYTES);
    const file = join(folder, `${String(i).padStart(5, '0')}.png`);
    if (!(await exists(file)))
      await writeFileAtomic(file, await encodePng({ width: IMAGE_SIZE, height: IMAGE_SIZE, data }));
    images.push({ file, prompt: prompt.text, hash: sha256(data) });
  }
  const encode = encoderOf(embedded.pipeline, embedded.parts);
  return scoreRealImages(
    join(folder, 'scores'),
    embedded.parts,
    encode,
    images,
    { seed, ...REAL_DRAWS, estimator: 'standard', truncation: settings.pictureAbove, batch: 32 },
    context,
  );
}

/** Tunes a cell and tests the model of each of its rounds. */
async function runCell(
  own: SeedContext,
  cell: StudyCell,
  pool: SharedSweep,
  real: readonly RealImage[],
  context: JobContext,
): Promise<StudyModel[]> {
  const { embedded, settings, seed, training } = own;
  const models = Array.from({ length: cell.rounds }, (_, i) => ({
    name: cell.rounds === 1 ? cell.name : `${cell.name}, round ${i + 1}`,
    key: cell.rounds === 1 ? cell.key : `${cell.key}-${i + 1}`,
  }));
  const kept = await Promise.all(models.map((model) => storedModel(own, model)));
  if (kept.every((model) => model !== undefined)) return kept as StudyModel[];
  const sampling = samplingOf(settings, seed);
  const rounds = await runRounds(
    {
      folder: join(own.folder, 'cells', cell.key),
      parts: embedded.parts,
      prompts: training.map(({ text }) => text),
      sampling,
      candidates: cell.candidates,
      top: cell.top,
      selection: selectionOf(cell.selection, seed),
      batch: settings.batch,
      rounds: cell.rounds,
      start: 'fresh',
      ...adaptersOfCell(cell, settings),
      tune: {
        ...FINE_TUNE_DEFAULTS,
        learningRate: settings.learningRate,
        batch: settings.tuneBatch,
        accumulation: 1,
        updates: settings.updates,
        warmup: 20,
        decay: 'linear',
        lowestTimestep: settings.lowestTimestep,
        seed,
      },
      checkpointEvery: Math.max(1, Math.ceil(settings.updates / 4)),
      real: cell.realFraction > 0 ? { images: real, fraction: cell.realFraction } : undefined,
      encode: encoderOf(embedded.pipeline, embedded.parts),
      firstSweep: pool,
      pictures: picturesOf(own, [own.pictureMi]),
    },
    context,
  );
  const tested: StudyModel[] = [];
  for (const [i, model] of models.entries())
    tested.push(await testModel(own, model, rounds[i]?.adapter, context));
  return tested;
}

const evaluationFolder = (own: SeedContext, key: string): string => join(own.folder, 'tests', key);

async function storedModel(
  own: SeedContext,
  { name, key }: { name: string; key: string },
): Promise<StudyModel | undefined> {
  const stored = await readEvaluation(evaluationFolder(own, key)).catch(() => undefined);
  return stored === undefined ? undefined : { name, key, rows: stored.rows };
}

/** Draws and judges the test prompts with an adapter on the model, or without. */
async function testModel(
  own: SeedContext,
  model: { name: string; key: string },
  adapter: string | undefined,
  context: JobContext,
): Promise<StudyModel> {
  const kept = await storedModel(own, model);
  if (kept !== undefined) return kept;
  const { embedded, settings, seed } = own;
  const { parts, pipeline } = embedded;
  const models = { unet: parts.unet, text_encoder: parts.textEncoder };
  const loaded = adapter === undefined ? undefined : await loadAdapter(adapter, models, { name: 'test' });
  try {
    const sampling = samplingOf(settings, seed);
    const rows = await evaluate(
      {
        folder: evaluationFolder(own, model.key),
        parts,
        adapter: adapter === undefined ? '' : await hashFolder(adapter),
        prompts: own.tests,
        images: settings.images,
        sampling: { ...sampling, seed: sampling.seed + TEST_NOISE },
        batch: settings.batch,
        pictures: { scorers: own.scorers, decode: decoderOf(pipeline), keep: true },
      },
      {
        ...context,
        onProgress: (event) => context.onProgress?.({ ...event, task: `test ${model.name}, seed ${seed}` }),
      },
    );
    return { ...model, rows };
  } finally {
    loaded?.remove();
  }
}
