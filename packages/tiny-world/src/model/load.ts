/** The tiny model from its folder, in the form that generation and measurements take. */
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseSchedulerConfig } from '@equipoise/diffusion';
import {
  AutoencoderKL,
  CLIPModel,
  CLIPTextModel,
  ClipTokenizer,
  UNet2DConditionModel,
} from '@equipoise/models';
import { type ComponentFolder, openFolder } from '@equipoise/weights';
import { stateFromFile } from '../data/state-dict.js';
import { headsWidth } from '../judges/heads.js';
import { HEADSHOT_HEADS } from '../judges/headshot-judge.js';
import { JudgeNetwork } from '../judges/network.js';
import { SCENE_HEADS } from '../judges/scene-judge.js';
import type { TinyModel } from './generate.js';

/** Where the shipped weights lie: beside the sources and beside the built files alike. */
export const SHIPPED_WEIGHTS = fileURLToPath(new URL('../../weights', import.meta.url));

export interface Judges {
  readonly scene: JudgeNetwork;
  readonly headshot: JudgeNetwork;
}

/** Loads the pipeline's parts in float32. */
export async function loadTinyModel(path: string = SHIPPED_WEIGHTS): Promise<TinyModel> {
  const folder = await openFolder(path);
  const [text, vae, unet] = (await Promise.all(
    ['text_encoder', 'vae', 'unet'].map((name) => folder.component(name)),
  )) as [ComponentFolder, ComponentFolder, ComponentFolder];
  const scheduler = await folder.component('scheduler');
  return {
    tokenizer: await ClipTokenizer.fromFolder(join(path, 'tokenizer')),
    textEncoder: await withWeights(text, (state) =>
      CLIPTextModel.load(text.config, state, { storage: 'f32' }),
    ),
    vae: await withWeights(vae, (state) => AutoencoderKL.load(vae.config, state, { storage: 'f32' })),
    unet: await withWeights(unet, (state) =>
      UNet2DConditionModel.load(unet.config, state, { storage: 'f32' }),
    ),
    scheduler: parseSchedulerConfig(scheduler.config).config,
  };
}

/** Loads both towers of CLIP. */
export async function loadTinyClip(path: string = SHIPPED_WEIGHTS): Promise<CLIPModel> {
  const folder = await openFolder(join(path, 'clip'));
  const clip = await folder.component('clip');
  return withWeights(clip, (state) => CLIPModel.load(clip.config, state, { storage: 'f32' }));
}

/** Loads the judges. */
export async function loadJudges(path: string = SHIPPED_WEIGHTS): Promise<Judges> {
  const [scene, headshot] = await Promise.all([
    stateFromFile(join(path, 'judges', 'scene.safetensors')),
    stateFromFile(join(path, 'judges', 'headshot.safetensors')),
  ]);
  return {
    scene: await JudgeNetwork.load(headsWidth(SCENE_HEADS), scene.state),
    headshot: await JudgeNetwork.load(headsWidth(HEADSHOT_HEADS), headshot.state),
  };
}

type OpenState = Awaited<ReturnType<ComponentFolder['openWeights']>>;

async function withWeights<T>(
  component: ComponentFolder,
  load: (state: OpenState) => Promise<T>,
): Promise<T> {
  const state = await component.openWeights();
  try {
    return await load(state);
  } finally {
    await state.close();
  }
}
