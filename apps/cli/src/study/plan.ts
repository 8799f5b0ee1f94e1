/** The miniature of the paper's tables: its cells, its sizes and what they cost. */
import { type AdapterConfig, ATTENTION_TARGETS } from '@equipoise/adapters';
import { PICTURE_MI, type Selection } from '@equipoise/mi-tune';
import { SUITE_CATEGORIES, type SuiteCategory } from '@equipoise/tiny-world';

export interface StudySettings {
  /** Categories that are tested. */
  readonly categories: readonly SuiteCategory[];
  /** Categories that are tuned on. Default: all that are tested. */
  readonly trainCategories?: readonly SuiteCategory[];
  /** Prompts per category to tune on, and others to test on. */
  readonly trainPrompts: number;
  readonly testPrompts: number;
  /** Pictures per test prompt. */
  readonly images: number;
  /** M of the main cells. */
  readonly candidates: number;
  /** Other pools that one example is taken from. */
  readonly pools: readonly number[];
  /** k of all cells but one. */
  readonly keep: number;
  /** k of that one. */
  readonly top: number;
  readonly rounds: number;
  readonly realFractions: readonly number[];
  /** Drawn pictures per training prompt, of which MI selects. */
  readonly realPerPrompt: number;
  /** Timesteps at which a finished picture is scored by MI, and the one they lie above. */
  readonly pictureDraws: number;
  readonly pictureAbove: number;
  readonly steps: number;
  readonly guidance: number;
  readonly updates: number;
  readonly tuneBatch: number;
  readonly learningRate: number;
  /** Timesteps below it are not trained. */
  readonly lowestTimestep: number;
  readonly rank: number;
  /**
   * What is adapted: the denoiser's attention, as published, or all linear layers of its transformer blocks and of the
   * text encoder. On hundreds of prompts the latter teaches the embedded model far more; on few it learns them by heart.
   */
  readonly layers: 'attention' | 'linear';
  readonly batch: number;
}

/** By what a cell chooses: MI summed in the sampling loop, chance, or a score of the finished pictures. */
export type StudyChoice = 'mi' | 'random' | typeof PICTURE_MI | 'clip' | 'aligned';

/** The choice as the selection of candidates takes it. */
export function selectionOf(choice: StudyChoice, seed: number): Selection {
  if (choice === 'mi') return { by: 'mi' };
  return choice === 'random' ? { by: 'random', seed } : { by: 'score', name: choice };
}

/** One tuned model of the tables. */
export interface StudyCell {
  readonly name: string;
  /** Folder below the seed's. */
  readonly key: string;
  readonly rounds: number;
  readonly selection: StudyChoice;
  readonly candidates: number;
  readonly top: number;
  readonly kind: AdapterConfig['kind'];
  readonly text: boolean;
  readonly realFraction: number;
}

/** All tuned cells; the base model is not among them. */
export function studyCells(settings: StudySettings): StudyCell[] {
  const main: StudyCell = {
    name: 'MI-TUNE (pictures)',
    key: 'pictures',
    rounds: settings.rounds,
    selection: PICTURE_MI,
    candidates: settings.candidates,
    top: settings.keep,
    kind: 'dora',
    text: settings.layers === 'linear',
    realFraction: 0,
  };
  const once = { ...main, rounds: 1 };
  return [
    main,
    { ...once, name: 'random choice', key: 'random', selection: 'random' },
    { ...once, name: 'CLIP-selected', key: 'clip', selection: 'clip' },
    { ...once, name: 'MI-TUNE (in the loop)', key: 'loop', selection: 'mi' },
    // What tuning can give at best: the choice is made by the judge that also tests the model.
    { ...once, name: 'judge-selected', key: 'judge', selection: 'aligned' },
    { ...once, name: 'LoRA', key: 'lora', kind: 'lora' },
    main.text
      ? { ...once, name: 'UNet alone', key: 'unet', text: false }
      : { ...once, name: 'UNet + text encoder', key: 'text', text: true },
    ...settings.pools.map((pool) => ({
      ...once,
      name: `${settings.keep} of ${pool}`,
      key: `of-${pool}`,
      candidates: pool,
    })),
    {
      ...once,
      name: `${settings.top} of ${settings.candidates}`,
      key: `top-${settings.top}`,
      top: settings.top,
    },
    ...settings.realFractions.map((fraction) => ({
      ...once,
      name: `real ${fraction}`,
      key: `real-${fraction}`,
      realFraction: fraction,
    })),
  ];
}

const LINEAR_TARGETS = [...ATTENTION_TARGETS, 'ff.net.0.proj', 'ff.net.2', 'proj_in', 'proj_out'] as const;
const TEXT_ATTENTION = ['q_proj', 'k_proj', 'v_proj', 'out_proj'] as const;
const TEXT_LINEAR = [...TEXT_ATTENTION, 'fc1', 'fc2'] as const;

/** The adapters of a cell. The text encoder's is always LoRA: see `mi-tune train --text-kind`. */
export function adaptersOfCell(
  { kind, text }: StudyCell,
  { rank, layers }: StudySettings,
): { adapter: AdapterConfig; textAdapter: AdapterConfig | undefined } {
  const [targets, textTargets] =
    layers === 'linear' ? [LINEAR_TARGETS, TEXT_LINEAR] : [ATTENTION_TARGETS, TEXT_ATTENTION];
  const adapter: AdapterConfig = { kind, rank, alpha: rank, init: 'gaussian', targets };
  return { adapter, textAdapter: text ? { ...adapter, kind: 'lora', targets: textTargets } : undefined };
}

/** Largest pool of candidates that any cell chooses from: what the shared sweep has. */
export function poolOf({ candidates, pools }: StudySettings): number {
  return Math.max(candidates, ...pools);
}

/** How many prompts the adapters are tuned on. */
export function trainingCount({
  categories,
  trainCategories = categories,
  trainPrompts,
}: StudySettings): number {
  return trainCategories.length * trainPrompts;
}

/** Work of one seed. */
export interface StudyCost {
  /** A candidate through one sampling step, both branches of guidance. */
  readonly pairSteps: number;
  /** An example forward and backward. */
  readonly tunedExamples: number;
  /** Finished pictures scored by MI, times draws: candidates and real ones. */
  readonly pictureDraws: number;
}

/** How a real picture is scored: like a candidate, by more draws. */
export const REAL_DRAWS = { replicates: 2, strata: 8, antithetic: true } as const;

/** Counts the work of one seed. */
export function studyCost(settings: StudySettings): StudyCost {
  const { categories, testPrompts, images, candidates, rounds, steps } = settings;
  const prompts = trainingCount(settings);
  const cells = studyCells(settings);
  const models = 1 + cells.reduce((sum, cell) => sum + cell.rounds, 0);
  const realDraws = REAL_DRAWS.replicates * REAL_DRAWS.strata * 2;
  const swept = prompts * (poolOf(settings) + (rounds - 1) * candidates);
  const built = cells.reduce(
    (sum, cell) => sum + cell.rounds * prompts * cell.top * (1 - cell.realFraction),
    0,
  );
  const tested = models * categories.length * testPrompts * images;
  return {
    pairSteps: Math.round((swept + built + tested) * steps),
    tunedExamples: (models - 1) * settings.updates * settings.tuneBatch,
    pictureDraws:
      swept * settings.pictureDraws +
      (settings.realFractions.length > 0 ? prompts * settings.realPerPrompt * realDraws : 0),
  };
}

/** Presets by the time they are meant to take. */
export const STUDY_SIZES = {
  /** Shows that everything runs; its numbers mean nothing. */
  tiny: {
    categories: ['single', 'color'],
    trainPrompts: 2,
    testPrompts: 2,
    images: 1,
    candidates: 4,
    pools: [3, 5],
    keep: 1,
    top: 2,
    rounds: 2,
    realFractions: [0.5],
    realPerPrompt: 1,
    pictureDraws: 4,
    pictureAbove: 550,
    steps: 3,
    guidance: 4,
    updates: 2,
    tuneBatch: 2,
    learningRate: 1e-3,
    lowestTimestep: 500,
    rank: 4,
    layers: 'linear',
    batch: 8,
  },
  small: {
    categories: SUITE_CATEGORIES,
    trainPrompts: 8,
    testPrompts: 12,
    images: 4,
    candidates: 50,
    pools: [30, 100],
    keep: 1,
    top: 7,
    rounds: 3,
    realFractions: [0.25, 0.5, 0.9],
    realPerPrompt: 2,
    pictureDraws: 8,
    pictureAbove: 550,
    steps: 10,
    guidance: 4,
    updates: 150,
    tuneBatch: 16,
    learningRate: 1e-3,
    lowestTimestep: 500,
    rank: 8,
    layers: 'attention',
    batch: 16,
  },
  /**
   * Tuned on color binding alone, on many prompts with few candidates each, since it takes hundreds of prompts until even
   * right pictures teach the embedded model to bind others; tested on all categories.
   */
  color: {
    categories: SUITE_CATEGORIES,
    trainCategories: ['color'],
    trainPrompts: 300,
    testPrompts: 18,
    images: 4,
    candidates: 12,
    pools: [],
    keep: 2,
    top: 1,
    rounds: 3,
    realFractions: [],
    realPerPrompt: 1,
    pictureDraws: 8,
    pictureAbove: 550,
    steps: 10,
    guidance: 4,
    updates: 400,
    tuneBatch: 32,
    learningRate: 2e-3,
    lowestTimestep: 500,
    rank: 32,
    layers: 'linear',
    batch: 16,
  },
  full: {
    categories: SUITE_CATEGORIES,
    trainPrompts: 24,
    testPrompts: 20,
    images: 8,
    candidates: 50,
    pools: [30, 100],
    keep: 1,
    top: 7,
    rounds: 3,
    realFractions: [0.25, 0.5, 0.9],
    realPerPrompt: 4,
    pictureDraws: 16,
    pictureAbove: 550,
    steps: 20,
    guidance: 4,
    updates: 200,
    tuneBatch: 16,
    learningRate: 1e-3,
    lowestTimestep: 500,
    rank: 8,
    layers: 'attention',
    batch: 32,
  },
} as const satisfies Record<string, StudySettings>;
