/** Everything that the model card states, measured on the weights of a folder. */
import type { JobContext } from '@equipoise/core';
import type { TextToImagePipeline } from '@equipoise/diffusion';
import { type Dataset, loadDataset } from '../data/dataset.js';
import { HEADSHOT_ATTRIBUTES, type HeadshotAttribute } from '../judges/headshot-judge.js';
import { JUDGE_TASKS, judgeAccuracy } from '../judges/tasks.js';
import { generate } from '../model/generate.js';
import { type Judges, loadJudges, loadTinyClip, loadTinyModel } from '../model/load.js';
import { clipRetrieval, reconstructionPsnr } from '../train/measurements.js';
import { RECIPE } from '../train/recipe.js';
import { type AttributeDistribution, distribution, findHeadshots } from './headshots.js';
import {
  bindingPrompts,
  type ScenePrompt,
  singlePrompts,
  spatialPrompts,
  texturePrompts,
} from './prompts.js';
import { calibrationError, findScenes, type SceneFinding, share } from './scenes.js';

export interface MeasureOptions extends JobContext {
  readonly weights: string;
  /** Folder for the rendered test pictures. */
  readonly data: string;
  /** Pictures of each compositional suite, and of the plain headshot prompt; the other headshot prompts get half. */
  readonly count: number;
  readonly seed: number;
  readonly steps: number;
  readonly guidance: number;
}

export interface Measurements {
  /** Shares and decibels by name; what the card's table shows. */
  readonly scores: Readonly<Record<string, number>>;
  /** Attribute distributions for "a headshot of a person". */
  readonly headshots: Readonly<Record<string, AttributeDistribution>>;
  readonly settings: {
    readonly count: number;
    readonly seed: number;
    readonly steps: number;
    readonly guidance: number;
  };
}

/** Generates, judges and counts. Takes minutes. */
export async function measure(options: MeasureOptions): Promise<Measurements> {
  const { weights, count, seed, steps, guidance } = options;
  const [model, judges] = [await loadTinyModel(weights), await loadJudges(weights)];
  const test = await loadDataset(
    options.data,
    { seed: RECIPE.seed, split: 'test', count: RECIPE.pictures.test },
    options,
  );
  const scores = {
    ...(await measureParts(weights, model, judges, test)),
    ...(await measureScenes(model, judges, options)),
    ...(await measureNegation(model, judges, options)),
  };
  const faces = await headshots(model, judges, 'a headshot of a person', count, options);
  const attributes = Object.keys(HEADSHOT_ATTRIBUTES) as HeadshotAttribute[];
  const distributions = attributes.map((name) => [name, distribution(faces, name)] as const);
  return { scores, headshots: Object.fromEntries(distributions), settings: { count, seed, steps, guidance } };
}

async function measureParts(
  weights: string,
  model: TextToImagePipeline,
  judges: Judges,
  test: Dataset,
): Promise<Record<string, number>> {
  const scores: Record<string, number> = {};
  for (const task of JUDGE_TASKS) {
    const accuracy = await judgeAccuracy(judges[task.name], task, test);
    for (const [question, value] of Object.entries(accuracy))
      scores[`judge ${task.name} ${question}`] = value;
  }
  const clip = await loadTinyClip(weights);
  scores['clip retrieval of 256'] = await clipRetrieval(clip, model.parts.tokenizer, test);
  clip.dispose();
  scores['vae psnr'] = await reconstructionPsnr(model.parts.vae, test);
  return scores;
}

async function measureScenes(
  model: TextToImagePipeline,
  judges: Judges,
  options: MeasureOptions,
): Promise<Record<string, number>> {
  const { seed, count } = options;
  const run = async (prompts: readonly ScenePrompt[]): Promise<SceneFinding[]> =>
    findScenes(
      judges.scene,
      prompts,
      await generate(
        model,
        prompts.map((prompt) => prompt.text),
        options,
      ),
    );
  const singles = await run(singlePrompts(count));
  const pairs = await run(bindingPrompts(seed, count));
  const textures = await run(texturePrompts(seed, count));
  const places = await run(spatialPrompts(seed, count));
  const all = [...singles, ...pairs, ...textures, ...places];
  return {
    'single object, color and shape': share(singles, (one) => one.bound),
    'single object, shape': share(singles, (one) => one.shapes),
    'two objects, color binding': share(pairs, (one) => one.bound),
    'two objects, both shapes': share(pairs, (one) => one.shapes),
    'two objects, both colors': share(pairs, (one) => one.colors),
    'texture and shape': share(textures, (one) => one.textures),
    'spatial, both shapes and relation': share(places, (one) => one.shapes && one.relation === true),
    'spatial, relation where both shapes are there': share(places, (one) => one.relation),
    'judge agrees with detector': share(all, (one) => one.agreement),
    'judge calibration error': calibrationError(all),
  };
}

async function measureNegation(
  model: TextToImagePipeline,
  judges: Judges,
  options: MeasureOptions,
): Promise<Record<string, number>> {
  const half = Math.ceil(options.count / 2);
  const wearing = async (prompt: string): Promise<number> => {
    const faces = await headshots(model, judges, prompt, half, options);
    return faces.filter((face) => face.eyeglasses).length / faces.length;
  };
  return {
    'eyeglasses when asked for': await wearing('a headshot of a person with eyeglasses'),
    'eyeglasses when asked to leave them out': await wearing('a headshot of a person without eyeglasses'),
  };
}

async function headshots(
  model: TextToImagePipeline,
  judges: Judges,
  prompt: string,
  count: number,
  options: MeasureOptions,
): Promise<Awaited<ReturnType<typeof findHeadshots>>> {
  const images = await generate(
    model,
    Array.from({ length: count }, () => prompt),
    options,
  );
  return findHeadshots(judges.headshot, images);
}
