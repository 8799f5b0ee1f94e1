/**
 * Random tensors from Philox 4x32-10: element i of a tensor is a function of (seed, stream, offset + i) alone, the
 * same on every engine, shard and restart. The mapping is specified at the top of core's philox.ts; on portable
 * engines it fills the tensor on the host.
 *
 * Bytes: 4 per element written. Work: one Philox block (10 rounds) per four elements.
 */
import { PhiloxStream, splitU64 } from '@equipoise/core';
import * as tf from '@tensorflow/tfjs-core';
import { checkInteger, checkKeys, rangeError, typeError } from './checks.js';
import { defineKernel } from './define.js';

/** Where in which stream a random tensor lies. */
export interface RandomOptions {
  /** Unsigned 64-bit integer: a safe integer or a bigint. */
  seed: number | bigint;
  /** Unsigned 64-bit integer: a safe integer or a bigint; see `streamId` of @equipoise/core. */
  stream: number | bigint;
  /** Stream index of the first element. Default 0. */
  offset?: number;
}

/** Attributes of the kernels `RandomNormal` and `RandomUniform`; both have no inputs. */
export interface RandomAttrs {
  shape: number[];
  /** Low and high 32-bit word. */
  seed: [number, number];
  /** Low and high 32-bit word. */
  stream: [number, number];
  offset: number;
}

const join = ([low, high]: [number, number]): bigint => (BigInt(high) << 32n) | BigInt(low);

const portable =
  (fill: 'fillNormal' | 'fillUniform') =>
  (_: object, { shape, seed, stream, offset }: RandomAttrs): tf.Tensor => {
    const values = new Float32Array(tf.util.sizeFromShape(shape));
    return tf.tensor(new PhiloxStream(join(seed), join(stream))[fill](values, offset), shape, 'float32');
  };

const runNormal = defineKernel<object, RandomAttrs>({
  name: 'RandomNormal',
  portable: portable('fillNormal'),
});
const runUniform = defineKernel<object, RandomAttrs>({
  name: 'RandomUniform',
  portable: portable('fillUniform'),
});

function words(op: string, argument: string, value: unknown): [number, number] {
  if (typeof value !== 'number' && typeof value !== 'bigint')
    throw typeError(op, argument, 'an integer', value);
  try {
    return splitU64(argument, value);
  } catch {
    throw rangeError(op, argument, 'an integer from 0 to 2^64 - 1 (a bigint above 2^53)', value);
  }
}

function resolve(op: string, shape: readonly number[], options: RandomOptions): RandomAttrs {
  if (!Array.isArray(shape)) throw typeError(op, 'shape', 'an array of sizes', shape);
  for (const size of shape) checkInteger(op, 'shape', size, 0);
  const size = tf.util.sizeFromShape(shape);
  if (size > 2 ** 40) throw rangeError(op, 'shape', 'at most 2^40 elements', shape);
  if (typeof options !== 'object' || options === null)
    throw typeError(op, 'options', 'seed and stream', options);
  checkKeys(op, options, ['seed', 'stream', 'offset']);
  const { offset = 0 } = options;
  checkInteger(op, 'offset', offset, 0);
  if (!Number.isSafeInteger(offset + size)) throw rangeError(op, 'offset', 'a range below 2^53', offset);
  return {
    shape: [...shape],
    seed: words(op, 'seed', options.seed),
    stream: words(op, 'stream', options.stream),
    offset,
  };
}

/**
 * Standard normal numbers.
 *
 * @param shape sizes of the result
 * @throws TypeError on a wrong kind of argument, RangeError on sizes or seeds out of range
 */
export function randomNormal<R extends tf.Rank = tf.Rank>(
  shape: number[],
  options: RandomOptions,
): tf.Tensor<R> {
  return runNormal<tf.Tensor<R>>({}, resolve('randomNormal', shape, options));
}

/**
 * Uniform numbers in [0, 1), 24 random bits each.
 *
 * @param shape sizes of the result
 * @throws TypeError on a wrong kind of argument, RangeError on sizes or seeds out of range
 */
export function randomUniform<R extends tf.Rank = tf.Rank>(
  shape: number[],
  options: RandomOptions,
): tf.Tensor<R> {
  return runUniform<tf.Tensor<R>>({}, resolve('randomUniform', shape, options));
}
