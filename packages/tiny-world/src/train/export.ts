/** The finished weights as a folder that diffusers and transformers load, in float16. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { type JsonValue, writeJsonAtomic } from '@equipoise/core';
import { savePipeline } from '@equipoise/diffusion';
import {
  castSource,
  float32Source,
  saveModel,
  type TensorSource,
  writeSafetensors,
} from '@equipoise/weights';
import { readTensorFile } from '../data/tensor-file.js';
import { clipConfig, preprocessorConfig } from '../model/architecture.js';
import { disposePipeline, runPipeline } from './pipeline.js';
import type { Stage } from './recipe.js';
import type { StageContext } from './stage-context.js';
import { JUDGE_TASKS } from './stages/judges.js';

type Config = Readonly<Record<string, JsonValue>>;

/** Writes the diffusers folder with `clip/` and `judges/` beside its components. All stages must be finished. */
export async function exportModel(context: StageContext, folder: string): Promise<void> {
  const pipeline = await runPipeline(context, 'finished');
  await savePipeline(pipeline, folder, { dtype: 'F16', overwrite: true });
  disposePipeline(pipeline);
  const clip = join(folder, 'clip');
  await mkdir(clip, { recursive: true });
  await (await context.tokenizer()).save(clip);
  const config = { ...clipConfig(await context.vocabularyIds()), dtype: 'float16' };
  await saveModel(clip, 'transformers', config as unknown as Config, await half(context, 'clip', 'clip'));
  await writeJsonAtomic(join(clip, 'preprocessor_config.json'), preprocessorConfig() as Config);
  const judges = join(folder, 'judges');
  await mkdir(judges, { recursive: true });
  for (const { name } of JUDGE_TASKS) {
    await writeSafetensors(join(judges, `${name}.safetensors`), await half(context, 'judges', name));
  }
}

async function half(context: StageContext, stage: Stage, name: string): Promise<TensorSource[]> {
  const file = await readTensorFile(context.resultPath(stage, name));
  return [...file.tensors.values()].map((tensor) =>
    castSource(float32Source(tensor.name, tensor.shape, tensor.values), 'F16'),
  );
}
