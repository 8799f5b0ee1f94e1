/** Reductions, scans, softmax and top-k: native kernels see [outer, length, inner]. */
import type { Handle, ReductionOp } from '@equipoise/native';
import type { DataType, TensorInfo } from '@tensorflow/tfjs-core';
import * as tf from '@tensorflow/tfjs-core';
import { defineNative, type KernelCall } from './define.js';
import { product, reductionSplit, splitAt, stridesOf } from './geometry.js';

/** Reduces `axes` of x. Axes that are not neighbours are brought together by a transpose first. */
export function reduceAxes(
  call: KernelCall,
  op: ReductionOp,
  x: Handle,
  shape: readonly number[],
  axes: readonly number[],
): Handle {
  const split = reductionSplit(shape, axes);
  if (split) return call.ops[op](x, split.outer, split.length, split.inner);
  const kept = shape.map((_, d) => d).filter((d) => !axes.includes(d));
  const perm = [...kept, ...axes];
  const strides = stridesOf(shape);
  const sizes = (dims: readonly number[]) => dims.map((d) => shape[d] as number);
  return call.temporaries((keep) => {
    const moved = keep(
      call.ops.transpose(
        x,
        sizes(perm),
        perm.map((d) => strides[d] as number),
        0,
      ),
    );
    return call.ops[op](moved, product(sizes(kept)), product(sizes(axes)), 1);
  });
}

function defineReduction(
  kernel: string,
  op: ReductionOp,
  resultType: (x: DataType) => DataType,
  axisName = 'axis',
): void {
  defineNative(kernel, (call) => {
    const x = call.input('x');
    const axes = [...new Set(tf.util.parseAxisParam(call.attr<number | number[]>(axisName), x.shape))].sort(
      (a, b) => a - b,
    );
    const shape = call.attr<boolean | undefined>('keepDims')
      ? x.shape.map((size, d) => (axes.includes(d) ? 1 : size))
      : x.shape.filter((_, d) => !axes.includes(d));
    return call.outputAs(reduceAxes(call, op, call.handle(x), x.shape, axes), shape, resultType(x.dtype));
  });
}

const accumulated = (x: DataType): DataType => (x === 'float32' ? 'float32' : 'int32');
const same = (x: DataType): DataType => x;
defineReduction('Sum', 'sum', accumulated);
defineReduction('Prod', 'prod', accumulated);
defineReduction('Mean', 'mean', () => 'float32');
defineReduction('Max', 'max', same, 'reductionIndices');
defineReduction('Min', 'min', same);
defineReduction('All', 'all', same);
defineReduction('Any', 'any', same);
defineReduction('ArgMax', 'argMax', () => 'int32');
defineReduction('ArgMin', 'argMin', () => 'int32');

function defineScan(kernel: string, op: 'cumsum' | 'cumprod'): void {
  defineNative(kernel, (call) => {
    const x = call.input('x');
    const [axis] = tf.util.parseAxisParam(call.attr<number>('axis'), x.shape) as [number];
    const { outer, length, inner } = splitAt(x.shape, axis);
    const y = call.ops[op](
      call.handle(x),
      outer,
      length,
      inner,
      call.attr('exclusive') ?? false,
      call.attr('reverse') ?? false,
    );
    return call.outputAs(y, x.shape, accumulated(x.dtype));
  });
}
defineScan('Cumsum', 'cumsum');
defineScan('Cumprod', 'cumprod');

defineNative('Softmax', (call) => {
  const logits = call.input('logits');
  const rank = logits.shape.length;
  const dim = call.attr<number | undefined>('dim') ?? -1;
  if ((dim < 0 ? dim + rank : dim) !== rank - 1) {
    throw new RangeError(`Softmax: dim: expected the last of ${rank} axes, got ${dim}`);
  }
  return call.output(
    call.ops.softmax(call.handle(logits), logits.shape.at(-1) as number),
    logits.shape,
    'float32',
  );
});

defineNative('TopK', (call) => {
  const x = call.input('x');
  const k = call.attr<number>('k');
  const shape = [...x.shape.slice(0, -1), k];
  const [values, indices] = call.ops.topK(call.handle(x), x.shape.at(-1) as number, k);
  return [
    call.outputAs(values, shape, x.dtype),
    call.outputAs(indices, shape, 'int32'),
  ] satisfies TensorInfo[];
});
