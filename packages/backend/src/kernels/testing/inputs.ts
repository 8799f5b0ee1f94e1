/** Inputs of the kernels' tests. */
import type { Handle, Storage } from '@equipoise/native';
import { randomWords } from '@equipoise/testing';
import type * as tf from '@tensorflow/tfjs-core';
import { currentDevice, type EquipoiseBackend } from '../../index.js';

const device = (): EquipoiseBackend => currentDevice() as EquipoiseBackend;

/** Sixteenths in [-8, 8): bf16 holds them exactly, so that storage changes nothing but the precision of results. */
export function numbers(n: number, seed = 1): Float32Array {
  const next = randomWords(seed);
  return Float32Array.from({ length: n }, () => ((next() >>> 16) % 256) / 16 - 8);
}

/** Puts values on the current device. */
export function upload(values: ArrayLike<number>, shape: number[], storage: Storage): Handle {
  const { native } = device();
  if (storage === 'i32') return native.upload(Int32Array.from(values), 'i32', shape, 'i32', false);
  if (storage === 'bool') return native.upload(Uint8Array.from(values), 'bool', shape, 'bool', false);
  return native.upload(Float32Array.from(values), 'f32', shape, storage, false);
}

/** A number as bf16 holds it. */
export const bf16 = (x: number): number => device().native.readSync(upload([x], [1], 'bf16'))[0] as number;

/** How a tensor lies on the current device. */
export const storageOf = (x: tf.Tensor): string => device().native.info(device().handle(x, 'test')).storage;
