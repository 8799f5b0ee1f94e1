/** The finished weights as a folder that diffusers and transformers load, in float16. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { type JsonValue, writeJsonAtomic } from '@equipoise/core';
import {
  castSource,
  float32Source,
  saveModel,
  savePipelineIndex,
  saveSchedulerConfig,
  type TensorSource,
  writeSafetensors,
} from '@equipoise/weights';
import { readTensorFile } from '../data/tensor-file.js';
import {
  clipConfig,
  preprocessorConfig,
  schedulerConfig,
  textEncoderConfig,
  unetConfig,
  vaeConfig,
} from '../model/architecture.js';
import type { Stage } from './recipe.js';
import type { StageContext } from './stage-context.js';
import { JUDGE_TASKS } from './stages/judges.js';

type Config = Readonly<Record<string, JsonValue>>;

/** Writes the diffusers folder with `clip/` and `judges/` beside its components. All stages must be finished. */
export async function exportModel(context: StageContext, folder: string): Promise<void> {
  const part = async (name: string): Promise<string> => {
    await mkdir(join(folder, name), { recursive: true });
    return join(folder, name);
  };
  const vocabulary = await context.vocabularyIds();
  const tokenizer = await context.tokenizer();
  await tokenizer.save(await part('tokenizer'));
  await tokenizer.save(await part('clip'));
  const scale = Number((await context.loadResult('vae', 'vae')).metadata.scaling_factor);
  const save = async (
    name: string,
    library: 'diffusers' | 'transformers',
    config: unknown,
    tensors: TensorSource[],
  ) => saveModel(await part(name), library, config as Config, tensors);
  await save('vae', 'diffusers', vaeConfig(scale), await half(context, 'vae', 'vae'));
  await save('unet', 'diffusers', unetConfig(), await half(context, 'unet', 'unet'));
  const clip = await half(context, 'clip', 'clip');
  await save('clip', 'transformers', clipConfig(vocabulary), clip);
  await writeJsonAtomic(join(folder, 'clip', 'preprocessor_config.json'), preprocessorConfig() as Config);
  const text = clip.filter((tensor) => tensor.name.startsWith('text_model.'));
  await save('text_encoder', 'transformers', textEncoderConfig(vocabulary), text);
  const judges = await part('judges');
  for (const { name } of JUDGE_TASKS) {
    await writeSafetensors(join(judges, `${name}.safetensors`), await half(context, 'judges', name));
  }
  await saveSchedulerConfig(await part('scheduler'), schedulerConfig() as Config);
  await savePipelineIndex(
    folder,
    'StableDiffusionPipeline',
    {
      feature_extractor: null,
      image_encoder: null,
      safety_checker: null,
      scheduler: { library: 'diffusers', className: 'DDIMScheduler' },
      text_encoder: { library: 'transformers', className: 'CLIPTextModel' },
      tokenizer: { library: 'transformers', className: 'CLIPTokenizer' },
      unet: { library: 'diffusers', className: 'UNet2DConditionModel' },
      vae: { library: 'diffusers', className: 'AutoencoderKL' },
    },
    { requires_safety_checker: false },
  );
}

async function half(context: StageContext, stage: Stage, name: string): Promise<TensorSource[]> {
  const file = await readTensorFile(context.resultPath(stage, name));
  return [...file.tensors.values()].map((tensor) =>
    castSource(float32Source(tensor.name, tensor.shape, tensor.values), 'F16'),
  );
}
