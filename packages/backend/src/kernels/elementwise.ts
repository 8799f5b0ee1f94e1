/** Functions of single elements: one native op each, looked up by name. */
import { BINARY_OPS, type BinaryOp, type Handle, UNARY_OPS, type UnaryOp } from '@equipoise/native';
import type { DataType, TensorInfo } from '@tensorflow/tfjs-core';
import * as tf from '@tensorflow/tfjs-core';
import { storageOf } from '../backend.js';
import { complexBinary } from './complex.js';
import { defineNative, type KernelCall } from './define.js';
import { sameShape } from './geometry.js';
import { compareStrings, fillStrings } from './strings.js';

function kernelNameOf(op: string): string {
  return op.charAt(0).toUpperCase() + op.slice(1);
}

for (const [op, gives] of Object.entries(UNARY_OPS) as Array<[UnaryOp, 'keep' | 'real' | 'test']>) {
  defineNative(kernelNameOf(op), (call) => {
    const x = call.input('x');
    const y = call.ops[op](call.handle(x), call.attr<number | undefined>('alpha'));
    return call.output(y, x.shape, gives === 'keep' ? x.dtype : gives === 'real' ? 'float32' : 'bool');
  });
}

/** The type of a + b; comparisons and logic give bool instead. */
function promote(a: DataType, b: DataType): DataType {
  if (a === 'float32' || b === 'float32') return 'float32';
  return a === 'int32' || b === 'int32' ? 'int32' : 'bool';
}

function binary(call: KernelCall, op: BinaryOp, a: TensorInfo, b: TensorInfo, dtype: DataType): TensorInfo {
  const shape = sameShape(a.shape, b.shape)
    ? a.shape
    : tf.backend_util.assertAndGetBroadcastShape(a.shape, b.shape);
  return call.output(call.ops[op](call.handle(a), call.handle(b)), shape, dtype);
}

/** Their inputs have other names, or their results another type: below. */
const APART: readonly string[] = ['floorDiv', 'prelu', 'eluGrad'] satisfies BinaryOp[];
for (const [op, kind] of Object.entries(BINARY_OPS) as Array<[BinaryOp, 'numeric' | 'real' | 'test']>) {
  if (APART.includes(op)) continue;
  defineNative(kernelNameOf(op), (call) => {
    const [a, b] = [call.input('a'), call.input('b')];
    if (kind === 'test')
      return a.dtype === 'string' ? compareStrings(call, a, b) : binary(call, op, a, b, 'bool');
    if (a.dtype === 'complex64' || b.dtype === 'complex64') return complexBinary(call, a, b);
    return binary(call, op, a, b, promote(a.dtype, b.dtype));
  });
}
defineNative('Prelu', (call) => binary(call, 'prelu', call.input('x'), call.input('alpha'), 'float32'));
defineNative('EluGrad', (call) => binary(call, 'eluGrad', call.input('dy'), call.input('y'), 'float32'));

/** Whole numbers even for float32 inputs: TensorFlow.js gives them the type int32. */
defineNative('FloorDiv', (call) => {
  const [a, b] = [call.input('a'), call.input('b')];
  const shape = tf.backend_util.assertAndGetBroadcastShape(a.shape, b.shape);
  return call.temporaries((keep) => {
    const quotient = keep(call.ops.floorDiv(call.handle(a), call.handle(b)));
    return call.output(call.ops.cast(quotient, 'i32'), shape, 'int32');
  });
});

defineNative('AddN', (call) => {
  const [first, ...rest] = call.list() as [TensorInfo, ...TensorInfo[]];
  if (rest.length === 0) return call.alias(first);
  return call.temporaries((keep) => {
    let sum: Handle = call.handle(first);
    rest.forEach((x, i) => {
      sum = call.ops.add(sum, call.handle(x));
      if (i < rest.length - 1) keep(sum);
    });
    return call.output(sum, first.shape, first.dtype);
  });
});

defineNative('Select', (call) => {
  const [condition, t, e] = [call.input('condition'), call.input('t'), call.input('e')];
  // A vector of conditions chooses whole rows.
  const rows = condition.shape.length === 1 && t.shape.length > 1;
  const shape = rows ? [...condition.shape, ...t.shape.slice(1).fill(1)] : condition.shape;
  const y = call.ops.select(call.handle({ ...condition, shape }), call.handle(t), call.handle(e));
  return call.output(y, t.shape, promote(t.dtype, e.dtype));
});

/** A tensor under another type; a no-op keeps its storage. */
export function cast(call: KernelCall, x: TensorInfo, dtype: DataType): TensorInfo {
  if (x.dtype === dtype) return call.alias(x);
  if (x.dtype === 'complex64') {
    const { real } = call.backend.complexParts(x);
    return cast(call, { ...real, shape: x.shape }, dtype);
  }
  if (dtype === 'complex64') {
    const zeros = call.output(call.ops.fill('f32', x.shape, 0), x.shape, 'float32');
    return call.backend.registerComplex(cast(call, x, 'float32'), zeros);
  }
  return call.output(call.ops.cast(call.handle(x), storageOf(dtype)), x.shape, dtype);
}
defineNative('Cast', (call) => cast(call, call.input('x'), call.attr<DataType>('dtype')));

defineNative('Fill', (call) => {
  const [shape, value] = [call.attr<number[]>('shape'), call.attr<number | string>('value')];
  const dtype = call.attr<DataType | undefined>('dtype') ?? tf.util.inferDtype(value);
  if (dtype === 'string') return fillStrings(call, shape, String(value));
  return call.output(call.ops.fill(storageOf(dtype), shape, Number(value)), shape, dtype);
});

/** A constant tensor like x, in the storage of x. */
function like(call: KernelCall, x: TensorInfo, value: number): TensorInfo {
  if (x.dtype === 'complex64') {
    const { real, imag } = call.backend.complexParts(x);
    return call.backend.registerComplex(
      like(call, { ...real, shape: x.shape }, value),
      like(call, { ...imag, shape: x.shape }, 0),
    );
  }
  const { storage } = call.backend.native.info(call.handle(x));
  return call.output(call.ops.fill(storage, x.shape, value), x.shape, x.dtype);
}
defineNative('ZerosLike', (call) => like(call, call.input('x'), 0));
defineNative('OnesLike', (call) => like(call, call.input('x'), 1));

/** Like TensorFlow.js: a step of the wrong sign gives an empty range, except that the default step 1 turns around. */
defineNative('Range', (call) => {
  const [start, stop, dtype] = [
    call.attr<number>('start'),
    call.attr<number>('stop'),
    call.attr<'float32' | 'int32'>('dtype'),
  ];
  let step = call.attr<number>('step');
  if (step === 1 && stop < start) step = -1;
  const count = Math.max(0, Math.ceil((stop - start) / step));
  if (!Number.isFinite(count))
    throw new RangeError(`Range: step: expected a number that leads from ${start} to ${stop}, got ${step}`);
  return call.output(call.ops.range(storageOf(dtype), count, start, step), [count], dtype);
});

defineNative('LinSpace', (call) => {
  const [start, stop, count] = [
    call.attr<number>('start'),
    call.attr<number>('stop'),
    call.attr<number>('num'),
  ];
  const step = count > 1 ? (stop - start) / (count - 1) : 0;
  return call.output(call.ops.range('f32', count, start, step), [count], 'float32');
});
