/**
 * Einsum of one or two operands (TensorFlow.js knows no more): sums and a transpose of one, a batched matrix product of
 * two, whose labels are batch (in both and in the result), summed (in both, not in the result) or free.
 */
import type { Handle } from '@equipoise/native';
import * as tf from '@tensorflow/tfjs-core';
import { defineNative, type KernelCall } from './define.js';
import { product, stridesOf } from './geometry.js';
import { reduceAxes } from './reductions.js';

interface Operand {
  handle: Handle;
  labels: string[];
  sizes: Map<string, number>;
}
type Keep = (handle: Handle) => Handle;

const shapeOf = ({ labels, sizes }: Operand): number[] => labels.map((label) => sizes.get(label) as number);

/** Sums the labels that nothing needs any more. */
function dropUnneeded(call: KernelCall, keep: Keep, x: Operand, needed: Set<string>): Operand {
  const axes = x.labels.flatMap((label, d) => (needed.has(label) ? [] : [d]));
  if (axes.length === 0) return x;
  return {
    ...x,
    handle: keep(reduceAxes(call, 'sum', x.handle, shapeOf(x), axes)),
    labels: x.labels.filter((label) => needed.has(label)),
  };
}

/** The operand with its labels in groups, as a tensor of one dimension per group. */
function grouped(call: KernelCall, keep: Keep, x: Operand, groups: string[][]): Handle {
  const [strides, order] = [stridesOf(shapeOf(x)), groups.flat().map((label) => x.labels.indexOf(label))];
  const dims = groups.map((labels) => product(labels.map((label) => x.sizes.get(label) as number)));
  const sorted = order.every((axis, i) => axis === i);
  const dense = sorted
    ? x.handle
    : keep(
        call.ops.transpose(
          x.handle,
          order.map((d) => shapeOf(x)[d] as number),
          order.map((d) => strides[d] as number),
          0,
        ),
      );
  return keep(call.backend.native.reshape(dense, dims));
}

function multiply(call: KernelCall, keep: Keep, a: Operand, b: Operand, output: Set<string>): Operand {
  const shared = a.labels.filter((label) => b.labels.includes(label));
  const batch = shared.filter((label) => output.has(label));
  const summed = shared.filter((label) => !output.has(label));
  const left = dropUnneeded(call, keep, a, new Set([...output, ...shared]));
  const right = dropUnneeded(call, keep, b, new Set([...output, ...shared]));
  const rows = left.labels.filter((label) => !shared.includes(label));
  const columns = right.labels.filter((label) => !shared.includes(label));
  const handles = [
    grouped(call, keep, left, [batch, rows, summed]),
    grouped(call, keep, right, [batch, summed, columns]),
  ] as const;
  const handle = keep(call.ops.matMul(...handles, false, false, false));
  return { handle, labels: [...batch, ...rows, ...columns], sizes: new Map([...a.sizes, ...b.sizes]) };
}

defineNative('Einsum', (call) => {
  const tensors = call.list();
  const equation = call.attr<string>('equation').replace(/\s/g, '');
  const { allDims, idDims } = tf.backend_util.decodeEinsumEquation(equation, tensors.length);
  tf.backend_util.checkEinsumDimSizes(allDims.length, idDims, tensors as tf.Tensor[]);
  const [terms, output] = equation.split('->') as [string, string];
  const operands = terms.split(',').map((term, i): Operand => {
    const x = tensors[i] as (typeof tensors)[number];
    return {
      handle: call.handle(x),
      labels: [...term],
      sizes: new Map([...term].map((label, d) => [label, x.shape[d] as number])),
    };
  });
  return call.temporaries((keep) => {
    const [a, b] = operands as [Operand, Operand?];
    const needed = new Set(output);
    const total = b ? multiply(call, keep, a, b, needed) : dropUnneeded(call, keep, a, needed);
    const dtype = tensors.every((x) => x.dtype === 'int32') ? 'int32' : 'float32';
    const shape = [...output].map((label) => total.sizes.get(label) as number);
    const y = grouped(
      call,
      keep,
      total,
      [...output].map((label) => [label]),
    );
    // `keep` owns y; the result needs a handle of its own.
    return call.output(call.backend.native.reshape(y, shape), shape, dtype);
  });
});
