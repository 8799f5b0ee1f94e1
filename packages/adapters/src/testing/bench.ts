/** The little UNet that the reference computed adapters on, with its inputs and results. */

import { UNet2DConditionModel } from '@equipoise/models';
import { fixturesOf, requireClose } from '@equipoise/testing';
import { openFolder, openSafetensors, readFloat32 } from '@equipoise/weights';
import * as tf from '@tensorflow/tfjs-core';
import { type Adapter, type AdapterGroup, loadAdapter } from '../index.js';

const fixtures = fixturesOf(import.meta.url, '../../fixtures');
export const weightsFixtures = fixturesOf(import.meta.url, '../../../weights/fixtures');
export const PATHS = {
  dora: weightsFixtures.path('adapters/dora-peft'),
  lora: weightsFixtures.path('adapters/lora-peft-patterns'),
  pointwise: fixtures.path('dora-pointwise'),
} as const;
type Name = keyof typeof PATHS;
export const PARITY = { absolute: 1e-4 };

export const reference = await openSafetensors(fixtures.path('expected.safetensors'));
export const values = (name: string): Promise<Float32Array> => readFloat32(reference.get(name));
export async function tensor<T extends tf.Tensor>(name: string): Promise<T> {
  return tf.tensor(await values(name), [...reference.get(name).shape]) as T;
}

export async function openUnet(storage: 'f32' | 'bf16' = 'f32'): Promise<UNet2DConditionModel> {
  const folder = await openFolder(weightsFixtures.path('pipeline'), { variant: 'fp16' });
  const component = await folder.component('unet');
  await using state = await component.openWeights();
  return await UNet2DConditionModel.load(component.config, state, { storage });
}

/** At its full weight the LoRA fixture makes the little model chaotic: rounding then shows in the third digit. */
export const LORA_WEIGHT = 0.05;

/** A model with the reference's inputs. */
export class Bench {
  private constructor(
    readonly unet: UNet2DConditionModel,
    readonly sample: tf.Tensor4D,
    readonly context: tf.Tensor3D,
    readonly weights: tf.Tensor4D,
  ) {}

  static async open(storage: 'f32' | 'bf16' = 'f32'): Promise<Bench> {
    return new Bench(
      await openUnet(storage),
      await tensor('sample'),
      await tensor('context'),
      await tensor('weights'),
    );
  }

  forward(): tf.Tensor4D {
    return this.unet.forward(this.sample, 501, this.context);
  }

  async output(): Promise<Float32Array> {
    const output = this.forward();
    const numbers = (await output.data()) as Float32Array;
    output.dispose();
    return numbers;
  }

  async check(name: string): Promise<void> {
    requireClose(name, await this.output(), await values(name), PARITY);
  }

  async load(name: Name, options: Parameters<typeof loadAdapter>[2] = {}): Promise<AdapterGroup> {
    return loadAdapter(PATHS[name], { unet: this.unet }, { name, ...options });
  }

  dispose(): void {
    tf.dispose([this.sample, this.context, this.weights]);
    this.unet.dispose();
  }
}

export const part = (group: AdapterGroup): Adapter => group.parts.get('unet') as Adapter;
