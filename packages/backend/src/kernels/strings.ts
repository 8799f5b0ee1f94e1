/** String tensors live on the host as UTF-8 bytes: what moves and compares them is done here. */
import type { TensorInfo } from '@tensorflow/tfjs-core';
import * as tf from '@tensorflow/tfjs-core';
import type { KernelCall } from './define.js';
import { product, stridesOf } from './geometry.js';

function write(call: KernelCall, values: Uint8Array[], shape: number[]): TensorInfo {
  return { dataId: call.backend.write(values, shape, 'string'), shape, dtype: 'string' };
}

function values(call: KernelCall, x: TensorInfo): Uint8Array[] {
  const strings = call.backend.strings(x);
  if (!strings) throw new TypeError(`${call.kernelName}: expected string tensors only, got ${x.dtype}`);
  return strings;
}

export function fillStrings(call: KernelCall, shape: number[], value: string): TensorInfo {
  return write(call, new Array<Uint8Array>(product(shape)).fill(tf.util.encodeString(value)), shape);
}

/** Calls visit with the offset of every element of a strided reading, in order. */
function walk(
  dims: readonly number[],
  strides: readonly number[],
  offset: number,
  visit: (at: number) => void,
): void {
  if (dims.length === 0) {
    visit(offset);
    return;
  }
  const [size, step] = [dims[0] as number, strides[0] as number];
  for (let i = 0; i < size; i++) walk(dims.slice(1), strides.slice(1), offset + i * step, visit);
}

/** The strings at offset + sum i_d strides_d. */
export function readStrings(
  call: KernelCall,
  x: TensorInfo,
  dims: readonly number[],
  strides: readonly number[],
  offset: number,
  shape: number[],
): TensorInfo {
  const from = values(call, x);
  const result: Uint8Array[] = [];
  walk(dims, strides, offset, (at) => result.push(from[at] as Uint8Array));
  return write(call, result, shape);
}

/** Parts seen as [outer, size, inner], joined along the middle. */
export function concatStrings(
  call: KernelCall,
  parts: TensorInfo[],
  sizes: number[],
  outer: number,
  inner: number,
  shape: number[],
): TensorInfo {
  const sources = parts.map((part) => values(call, part));
  const result: Uint8Array[] = [];
  for (let o = 0; o < outer; o++) {
    sources.forEach((source, k) => {
      const row = (sizes[k] as number) * inner;
      result.push(...source.slice(o * row, (o + 1) * row));
    });
  }
  return write(call, result, shape);
}

const comparisons: Record<string, (a: string, b: string) => boolean> = {
  Equal: (a, b) => a === b,
  NotEqual: (a, b) => a !== b,
  Less: (a, b) => a < b,
  LessEqual: (a, b) => a <= b,
  Greater: (a, b) => a > b,
  GreaterEqual: (a, b) => a >= b,
};

/** Compares strings, with broadcasting, by UTF-16 code units as JavaScript does. */
export function compareStrings(call: KernelCall, a: TensorInfo, b: TensorInfo): TensorInfo {
  const compare = comparisons[call.kernelName];
  if (!compare) throw new TypeError(`${call.kernelName}: string tensors are not supported`);
  const shape = tf.backend_util.assertAndGetBroadcastShape(a.shape, b.shape);
  const expanded = (x: TensorInfo): string[] => {
    const from = values(call, x);
    const steps = stridesOf(x.shape);
    const skipped = shape.length - x.shape.length;
    const strides = shape.map((_, d) =>
      d < skipped || x.shape[d - skipped] === 1 ? 0 : (steps[d - skipped] as number),
    );
    const result: string[] = [];
    walk(shape, strides, 0, (at) => result.push(tf.util.decodeString(from[at] as Uint8Array)));
    return result;
  };
  const [left, right] = [expanded(a), expanded(b)];
  const result = Uint8Array.from(left, (value, i) => Number(compare(value, right[i] as string)));
  return { dataId: call.backend.write(result, shape, 'bool'), shape, dtype: 'bool' };
}
