/** The finished weights as a folder that diffusers and transformers load, in float16. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { EquipoiseError, exists, type JsonValue, writeFileAtomic, writeJsonAtomic } from '@equipoise/core';
import { savePipeline } from '@equipoise/diffusion';
import {
  castSource,
  float32Source,
  saveModel,
  type TensorSource,
  writeSafetensors,
} from '@equipoise/weights';
import { readTensorFile } from '../data/tensor-file.js';
import { JUDGE_TASKS } from '../judges/tasks.js';
import { clipConfig, preprocessorConfig } from '../model/architecture.js';
import { CHECKPOINT } from './loop.js';
import { lossChart } from './loss-curve.js';
import { disposePipeline, runPipeline } from './pipeline.js';
import type { Recipe, Stage } from './recipe.js';
import type { StageContext } from './stage-context.js';

type Config = Readonly<Record<string, JsonValue>>;

/** File in the model folder that says which recipe made it, and how far the denoiser was trained. */
export const TRAINING_RECORD = 'training.json';

/** Folder of the loss curves in the model folder, and the stages they are drawn for. */
export const CURVES = 'curves';
const CURVE_STAGES = ['clip', 'vision', 'vae', 'judges/scene', 'judges/headshot', 'unet'] as const;

/** The contents of {@link TRAINING_RECORD}. */
export interface TrainingRecord {
  readonly recipe: Recipe;
  /** Updates of the denoiser, done and wanted. */
  readonly denoiser: { readonly step: number; readonly steps: number };
}

/** Writes the diffusers folder with `clip/` and `judges/` beside its components. The denoiser may
 * be unfinished if `partial` says so; `training.json` records how far it got. */
export async function exportModel(context: StageContext, folder: string, partial = false): Promise<void> {
  const denoiser = await progressOf(context);
  const { step, steps } = denoiser;
  if (step < steps && !partial) {
    throw new EquipoiseError('missing', `stage unet: expected ${steps} updates, got ${step}`, {
      hints: ['Finish the stage, or export what there is with --partial.'],
    });
  }
  const pipeline = await runPipeline(context, 'unet');
  await savePipeline(pipeline, folder, { dtype: 'F16', overwrite: true });
  disposePipeline(pipeline);
  const clip = join(folder, 'clip');
  await mkdir(clip, { recursive: true });
  await (await context.tokenizer()).save(clip);
  const config = { ...clipConfig(await context.vocabularyIds()), dtype: 'float16' };
  await saveModel(clip, 'transformers', config as unknown as Config, await half(context, 'vision', 'vision'));
  await writeJsonAtomic(join(clip, 'preprocessor_config.json'), preprocessorConfig() as Config);
  await writeJsonAtomic(join(folder, TRAINING_RECORD), {
    recipe: context.recipe as unknown as JsonValue,
    denoiser,
  });
  await saveCurves(context, join(folder, CURVES));
  const judges = join(folder, 'judges');
  await mkdir(judges, { recursive: true });
  for (const { name } of JUDGE_TASKS) {
    await writeSafetensors(join(judges, `${name}.safetensors`), await half(context, 'judges', name));
  }
}

/** How far the denoiser's training has got. */
async function progressOf(context: StageContext): Promise<TrainingRecord['denoiser']> {
  const { steps } = context.recipe.unet;
  if (!(await exists(context.resultPath('unet', 'unet')))) return { step: 0, steps };
  return { step: Number((await context.loadResult('unet', 'unet')).metadata.step), steps };
}

async function half(context: StageContext, stage: Stage, name: string): Promise<TensorSource[]> {
  const file = await readTensorFile(context.resultPath(stage, name));
  return [...file.tensors.values()].map((tensor) =>
    castSource(float32Source(tensor.name, tensor.shape, tensor.values), 'F16'),
  );
}

/** Draws the loss curves of all stages as `<stage>.svg`. */
async function saveCurves(context: StageContext, folder: string): Promise<void> {
  await mkdir(folder, { recursive: true });
  for (const stage of CURVE_STAGES) {
    // Nothing to draw for a denoiser exported before its last stage.
    if (!(await exists(context.run.path(stage, CHECKPOINT)))) continue;
    const file = await readTensorFile(context.run.path(stage, CHECKPOINT));
    const losses = file.tensors.get('losses')?.values ?? new Float32Array();
    await writeFileAtomic(join(folder, `${stage.replace('/', '-')}.svg`), lossChart(stage, losses));
  }
}
