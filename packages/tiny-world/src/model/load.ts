/** The tiny model from its folder, with what belongs to it. */
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { loadPipeline, type TextToImagePipeline } from '@equipoise/diffusion';
import { CLIPModel } from '@equipoise/models';
import { openFolder } from '@equipoise/weights';
import { stateFromFile } from '../data/state-dict.js';
import { HEADSHOT_OUTPUTS } from '../judges/headshot-judge.js';
import { JudgeNetwork } from '../judges/network.js';
import { SCENE_OUTPUTS } from '../judges/scene-judge.js';

/** Where the shipped weights lie: beside the sources and beside the built files alike. */
export const SHIPPED_WEIGHTS = fileURLToPath(new URL('../../weights', import.meta.url));

export interface Judges {
  readonly scene: JudgeNetwork;
  readonly headshot: JudgeNetwork;
}

/** Loads the pipeline with its weights in float32. */
export function loadTinyModel(path: string = SHIPPED_WEIGHTS): Promise<TextToImagePipeline> {
  return loadPipeline(path, { storage: 'f32' });
}

/** Loads both towers of CLIP. */
export async function loadTinyClip(path: string = SHIPPED_WEIGHTS): Promise<CLIPModel> {
  const component = await (await openFolder(join(path, 'clip'))).component('clip');
  const state = await component.openWeights();
  try {
    return await CLIPModel.load(component.config, state, { storage: 'f32' });
  } finally {
    await state.close();
  }
}

/** Loads the judges. */
export async function loadJudges(path: string = SHIPPED_WEIGHTS): Promise<Judges> {
  const [scene, headshot] = await Promise.all([
    stateFromFile(join(path, 'judges', 'scene.safetensors')),
    stateFromFile(join(path, 'judges', 'headshot.safetensors')),
  ]);
  return {
    scene: await JudgeNetwork.load(SCENE_OUTPUTS, 'cell', scene.state),
    headshot: await JudgeNetwork.load(HEADSHOT_OUTPUTS, 'picture', headshot.state),
  };
}
