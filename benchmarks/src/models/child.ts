/**
 * Our side of the full-size benchmark, a process of its own so that its peak memory is its own: one JSON request a
 * line in, one answer a line out, as tools/peers/torch_models.py.
 */
import { open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import readline from 'node:readline';
import { setPrecision, useEngine } from '@equipoise/backend';
import { AutoencoderKL, CLIPTextModel, UNet2DConditionModel } from '@equipoise/models';
import { openFolder, type StateDict } from '@equipoise/weights';
import * as tf from '@tensorflow/tfjs-core';
import { countWork, type Work } from '../measure/work.js';
import type { ModelKind, ModelReply, ModelRequest } from './protocol.js';

const folders = { unet: 'unet', text: 'text_encoder', vae: 'vae' } as const;
type FullSizeModel = UNet2DConditionModel | CLIPTextModel | AutoencoderKL;

function loadModel(kind: ModelKind, config: unknown, state: StateDict): Promise<FullSizeModel> {
  if (kind === 'unet') return UNet2DConditionModel.load(config, state);
  return kind === 'vae' ? AutoencoderKL.load(config, state) : CLIPTextModel.load(config, state);
}

let forward: ((batch: number) => tf.Tensor) | undefined;

/** The largest resident size of this process so far, as the kernel counts it. */
async function peakBytes(): Promise<number> {
  const line = /^VmHWM:\s+(\d+) kB$/m.exec(await readFile('/proc/self/status', 'utf8'));
  return line === null ? Number.NaN : Number(line[1]) * 1024;
}

async function load(root: string, kind: ModelKind): Promise<void> {
  const component = await (await openFolder(join(root, folders[kind]))).component(folders[kind]);
  const state = await component.openWeights();
  const model = await loadModel(kind, component.config, state);
  await state.close();
  forward = forwardOf(model);
}

function forwardOf(model: FullSizeModel): (batch: number) => tf.Tensor {
  if (model instanceof UNet2DConditionModel) {
    const width = model.config.cross_attention_dim;
    return (batch) =>
      model.forward(tf.randomNormal([batch, 64, 64, 4]), 501, tf.randomNormal([batch, 77, width]));
  }
  if (model instanceof AutoencoderKL) return (batch) => model.decode(tf.randomNormal([batch, 64, 64, 4]));
  return (batch) => {
    const row = (b: number) => Array.from({ length: 77 }, (_, i) => (b * 7919 + i * 104729) % 49406);
    return model.forward(Array.from({ length: batch }, (_, b) => row(b))).lastHiddenState;
  };
}

/** The forward until its result could be read; the result itself stays on the device, as the peer's does. */
async function run(batch: number): Promise<void> {
  if (forward === undefined) throw new Error('run: no model is loaded');
  const call = forward;
  const last = tf.tidy(() => tf.slice(tf.reshape(call(batch), [-1]), 0, 1));
  const [value] = await last.data();
  last.dispose();
  if (!Number.isFinite(value)) throw new Error(`run: the model gave ${value}`);
}

/** Reads a file once, whole into fresh memory or in pieces into one small buffer. */
async function readWhole(path: string, fresh: boolean): Promise<void> {
  const file = await open(path);
  try {
    const { size } = await file.stat();
    const piece = 16 << 20;
    const target = Buffer.allocUnsafeSlow(fresh ? size : piece);
    for (let done = 0; done < size; ) {
      const length = Math.min(piece, size - done);
      done += (await file.read(target, fresh ? done : 0, length, done)).bytesRead;
    }
  } finally {
    await file.close();
  }
}

async function perform(request: ModelRequest): Promise<Work | undefined> {
  if (request.op === 'count') return countWork(() => run(request.batch));
  if (request.op === 'load') await load(request.folder, request.model);
  else if (request.op === 'run') await run(request.batch);
  else await readWhole(request.path, request.fresh);
  return undefined;
}

async function main(): Promise<void> {
  await useEngine('equipoise-cpu');
  setPrecision('bf16');
  for await (const line of readline.createInterface({ input: process.stdin })) {
    let reply: ModelReply;
    try {
      const start = performance.now();
      const work = await perform(JSON.parse(line) as ModelRequest);
      const seconds = (performance.now() - start) / 1e3;
      reply = { seconds, peakBytes: await peakBytes(), ...(work !== undefined && { work }) };
    } catch (error) {
      reply = { error: error instanceof Error ? error.message : String(error) };
    }
    process.stdout.write(`${JSON.stringify(reply)}\n`);
  }
}

await main();
