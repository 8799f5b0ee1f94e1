/** Choosing the engine that runs TensorFlow.js, and its storage precision. */
import { createRequire } from 'node:module';
import { EquipoiseError } from '@equipoise/core';
import { AddonLoadError, loadAddon } from '@equipoise/native';
import * as tf from '@tensorflow/tfjs-core';
import { followEngine } from './profile/session.js';

export const ENGINES = ['equipoise-cpu', 'equipoise-cuda', 'tensorflow', 'cpu'] as const;
export type Engine = (typeof ENGINES)[number];
/** The CUDA sources compiled for the host (native/simt): slow, and there for the tests alone. */
export const SIMT_ENGINE = 'equipoise-simt';

export type Precision = 'f32' | 'bf16';
let precision: Precision = 'f32';

/** How frozen weights are stored unless a call says otherwise: f32 is the parity mode, bf16 the fast one. */
export function getPrecision(): Precision {
  return precision;
}

/** @throws RangeError on anything but 'f32' and 'bf16' */
export function setPrecision(value: Precision): void {
  if (value !== 'f32' && value !== 'bf16')
    throw new RangeError(`precision: expected f32 or bf16, got ${String(value)}`);
  precision = value;
}

/** Why `equipoise-cuda` cannot be used here, in one sentence; undefined if it can. */
export function cudaProblem(): string | undefined {
  try {
    const devices = loadAddon('cuda').devices();
    if (devices.some((device) => device.usable)) return undefined;
    return devices[0]?.reason ?? 'no GPU was found';
  } catch (error) {
    if (error instanceof AddonLoadError) return error.message;
    throw error;
  }
}

/**
 * Chooses the GPU that `equipoise-cuda` opens, before it is first used; the first one otherwise.
 * @throws TypeError when another one is open already
 */
export function selectCudaDevice(index: number): void {
  loadAddon('cuda').selectDevice(index);
}

/**
 * Makes an engine current. `tensorflow` needs `@tensorflow/tfjs-node-gpu` or `@tensorflow/tfjs-node`, which are
 * optional peer dependencies.
 * @throws EquipoiseError `missing` that says how to install or build it
 */
export async function useEngine(engine: Engine | typeof SIMT_ENGINE): Promise<void> {
  if (engine !== SIMT_ENGINE && !ENGINES.includes(engine))
    throw new RangeError(`engine: expected ${ENGINES.join(', ')}, got ${String(engine)}`);
  if (engine === 'tensorflow') loadTensorflow();
  if (engine === 'cpu') await import('@tensorflow/tfjs-backend-cpu');
  if (engine === 'equipoise-cuda') {
    // Asked for by name: what keeps it from working is an error, never a reason to compute elsewhere.
    const problem = cudaProblem();
    if (problem !== undefined) throw new EquipoiseError('missing', `engine equipoise-cuda: ${problem}`);
    loadAddon('cuda').describe();
  }
  if (!(await tf.setBackend(engine))) throw new Error(`engine ${engine} could not be initialised`);
  await tf.ready();
  followEngine();
}

function loadTensorflow(): void {
  const require = createRequire(import.meta.url);
  const failures: string[] = [];
  for (const name of ['@tensorflow/tfjs-node-gpu', '@tensorflow/tfjs-node']) {
    try {
      require(name);
      return;
    } catch (error) {
      failures.push(`${name}: ${(error as Error).message.split('\n')[0]}`);
    }
  }
  throw new EquipoiseError(
    'missing',
    `engine tensorflow: neither optional package could be loaded; run "npm install @tensorflow/tfjs-node" or "npm install @tensorflow/tfjs-node-gpu".\n  ${failures.join('\n  ')}`,
  );
}
