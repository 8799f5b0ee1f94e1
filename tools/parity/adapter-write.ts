/**
 * Makes adapters on the little models of packages/weights, computes what they give, and saves them in all spellings,
 * for the reference libraries to load: run by adapter_roundtrip.py.
 *
 *     npx tsx --conditions=equipoise-source tools/parity/adapter-write.ts FOLDER
 */
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as tf from '@tensorflow/tfjs-core';
import {
  type Adapter,
  type AdapterConfig,
  createAdapter,
  loadAdapter,
  saveAdapter,
} from '../../packages/adapters/src/index.js';
import { randomNormal, useEngine } from '../../packages/backend/src/index.js';
import { CLIPTextModel, UNet2DConditionModel } from '../../packages/models/src/index.js';
import {
  float32Source,
  openFolder,
  openSafetensors,
  readFloat32,
  type TensorSource,
  writeSafetensors,
} from '../../packages/weights/src/index.js';

const out = process.argv[2];
if (out === undefined) {
  console.error('usage: adapter-write.ts FOLDER');
  process.exit(2);
}
const packages = fileURLToPath(new URL('../../packages/', import.meta.url));
await useEngine('equipoise-cpu');

const folder = await openFolder(join(packages, 'weights/fixtures/pipeline'), { variant: 'fp16' });
const component = await folder.component('unet');
const state = await component.openWeights();
const unet = await UNet2DConditionModel.load(component.config, state, { storage: 'f32' });
await state.close();

const inputs = await openSafetensors(join(packages, 'adapters/fixtures/expected.safetensors'));
const input = async (name: string): Promise<tf.Tensor> =>
  tf.tensor(await readFloat32(inputs.get(name)), [...inputs.get(name).shape]);
const sample = (await input('sample')) as tf.Tensor4D;
const context = (await input('context')) as tf.Tensor3D;
const results: TensorSource[] = [];

async function record(name: string): Promise<void> {
  const output = unet.forward(sample, 501, context);
  results.push(float32Source(name, output.shape, Float32Array.from(await output.data())));
  output.dispose();
}

/** Moves A, B and magnitudes away from where they start, as training would. */
function disturb(adapter: Adapter): void {
  for (const [index, { down, up, magnitude }] of [...adapter.updates.values()].entries()) {
    for (const [part, variable] of [down, up, magnitude].entries()) {
      if (variable === null) continue;
      tf.tidy(() =>
        variable.assign(
          tf.add(
            variable,
            tf.mul(0.1, randomNormal(variable.shape, { seed: 9, stream: BigInt(3 * index + part) })),
          ),
        ),
      );
    }
  }
  adapter.changed();
}

const attention = ['to_q', 'to_k', 'to_v', 'to_out.0'];
const fresh: Record<string, AdapterConfig> = {
  'dora-attention': { kind: 'dora', rank: 3, alpha: 3, init: 'gaussian', targets: attention },
  'lora-attention': { kind: 'lora', rank: 2, alpha: 5, init: 'kaiming', targets: attention },
  'dora-all': {
    kind: 'dora',
    rank: 2,
    alpha: 1,
    init: 'gaussian',
    targets: [...attention, 'proj_in', 'proj_out', 'net.0.proj', 'net.2', 'time_emb_proj', 'linear_1'],
  },
};
await record('plain');
for (const [name, config] of Object.entries(fresh)) {
  const adapter = createAdapter(unet, name, config, 1);
  disturb(adapter);
  await record(name);
  for (const spelling of ['diffusers', 'peft'] as const)
    await saveAdapter(join(out, name, spelling), { unet: adapter }, { spelling });
  adapter.remove();
}
// What the reference libraries wrote, and how it computes here.
for (const name of [
  'dora-diffusers',
  'dora-diffusers-described',
  'dora-adapter',
  'dora-peft',
  'lora-unet-text',
]) {
  const path = join(packages, 'weights/fixtures/adapters', name);
  const group = await loadAdapter(
    path,
    { unet, text_encoder: name === 'lora-unet-text' ? await textEncoder() : undefined },
    { weight: 0.25 },
  );
  await record(`theirs.${name}`);
  group.remove();
}
await inputs.close();
await writeSafetensors(join(out, 'outputs.safetensors'), results);

async function textEncoder(): Promise<CLIPTextModel> {
  const part = await folder.component('text_encoder');
  await using weights = await part.openWeights();
  return await CLIPTextModel.load(part.config, weights);
}
