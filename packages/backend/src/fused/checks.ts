/**
 * Argument checks shared by the fused ops. Every failure names the op, the argument, what was expected and what
 * came: a TypeError for a wrong kind of value, a RangeError for a right kind with a wrong shape or magnitude.
 */
import { expectedMessage, prose } from '@equipoise/core';
import * as tf from '@tensorflow/tfjs-core';

const message = (op: string, argument: string, expected: string, actual: unknown): string => {
  const shown =
    actual instanceof tf.Tensor
      ? prose(`a ${actual.dtype} tensor of shape [${actual.shape.join(',')}]`)
      : actual;
  return expectedMessage(`${op}: ${argument}`, expected, shown);
};

/** A TypeError in the format of all fused ops. */
export function typeError(op: string, argument: string, expected: string, actual: unknown): TypeError {
  return new TypeError(message(op, argument, expected, actual));
}

/** A RangeError in the format of all fused ops. */
export function rangeError(op: string, argument: string, expected: string, actual: unknown): RangeError {
  return new RangeError(message(op, argument, expected, actual));
}

/**
 * Checks that `value` is a live float32 tensor and, where given, that its shape fits.
 * In `shape`, null stands for any size; a leading `'...'` stands for any number of leading axes.
 */
export function checkTensor(
  op: string,
  argument: string,
  value: unknown,
  shape?: ReadonlyArray<number | null | '...'>,
): asserts value is tf.Tensor {
  if (!(value instanceof tf.Tensor)) throw typeError(op, argument, 'a tensor', value);
  if (value.isDisposed) throw new TypeError(`${op}: ${argument}: expected a live tensor, got a disposed one`);
  if (value.dtype !== 'float32') throw typeError(op, argument, 'a float32 tensor', value);
  if (shape === undefined) return;
  const open = shape[0] === '...';
  const wanted = open ? shape.slice(1) : shape;
  const actual = open ? value.shape.slice(Math.max(0, value.rank - wanted.length)) : value.shape;
  const fits =
    actual.length === wanted.length && wanted.every((size, i) => size === null || size === actual[i]);
  if (!fits) {
    const text = shape.map((size) => (size === null ? 'any' : String(size))).join(',');
    throw rangeError(op, argument, `shape [${text}]`, value);
  }
}

/** Checks an integer option: `minimum <= value`. */
export function checkInteger(
  op: string,
  argument: string,
  value: unknown,
  minimum: number,
): asserts value is number {
  if (typeof value !== 'number') throw typeError(op, argument, `an integer >= ${minimum}`, value);
  if (!Number.isSafeInteger(value) || value < minimum)
    throw rangeError(op, argument, `an integer >= ${minimum}`, value);
}

/** Checks a finite number option, and that it is at least `minimum` where given. */
export function checkNumber(
  op: string,
  argument: string,
  value: unknown,
  minimum = -Infinity,
): asserts value is number {
  const expected = minimum === -Infinity ? 'a finite number' : `a finite number >= ${minimum}`;
  if (typeof value !== 'number') throw typeError(op, argument, expected, value);
  if (!Number.isFinite(value) || value < minimum) throw rangeError(op, argument, expected, value);
}

/** Checks that `value` is one of the given words. */
export function checkOneOf<T extends string>(
  op: string,
  argument: string,
  value: unknown,
  words: readonly T[],
): asserts value is T {
  const expected = `one of ${words.map((word) => `'${word}'`).join(', ')}`;
  if (typeof value !== 'string') throw typeError(op, argument, expected, value);
  if (!(words as readonly string[]).includes(value)) throw rangeError(op, argument, expected, value);
}

/** Checks that an options object holds only known keys. */
export function checkKeys(op: string, options: object, known: readonly string[]): void {
  for (const key of Object.keys(options)) {
    if (!known.includes(key)) {
      throw new TypeError(`${op}: unknown option '${key}', expected only ${known.join(', ')}`);
    }
  }
}
