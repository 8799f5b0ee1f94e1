/** Kernels that read or write where an index tensor says. */
import { PhiloxStream } from '@equipoise/core';
import type { DataType, TensorInfo } from '@tensorflow/tfjs-core';
import * as tf from '@tensorflow/tfjs-core';
import { storageOf } from '../backend.js';
import { defineNative, type KernelCall } from './define.js';
import { product } from './geometry.js';

/**
 * Throws when a known index is outside its dimension. Indices computed on the device are checked there: a bad one is a
 * fault, reported by the next read.
 */
function checkIndices(call: KernelCall, indices: TensorInfo, dims: readonly number[]): void {
  call.backend.knownIntegers(indices)?.forEach((index, i) => {
    const size = dims[i % dims.length] as number;
    if (index < 0 || index >= size)
      throw new RangeError(`${call.kernelName}: the index value ${index} is not in [0, ${size - 1}]`);
  });
}

defineNative('GatherV2', (call) => {
  const [x, indices] = [call.input('x'), call.input('indices')];
  const [axis] = tf.util.parseAxisParam(call.attr<number>('axis'), x.shape) as [number];
  const info = tf.backend_util.segment_util.collectGatherOpShapeInfo(
    x as tf.Tensor,
    indices as tf.Tensor,
    axis,
    call.attr<number | undefined>('batchDims') ?? 0,
  );
  checkIndices(call, indices, [info.dimSize]);
  const y = call.ops.gather(
    call.handle(x),
    call.handle(indices),
    info.batchSize,
    info.outerSize,
    info.dimSize,
    info.sliceSize,
  );
  return call.outputAs(y, info.outputShape, x.dtype);
});

defineNative('GatherNd', (call) => {
  const [params, indices] = [call.input('params'), call.input('indices')];
  const [shape, count, slice] = tf.backend_util.prepareAndValidate(params as tf.Tensor, indices as tf.Tensor);
  const dims = params.shape.slice(0, indices.shape.at(-1));
  checkIndices(call, indices, dims);
  return call.outputAs(
    call.ops.gatherNd(call.handle(params), call.handle(indices), dims, slice, count),
    shape,
    params.dtype,
  );
});

/** Adds updates to zeros of `shape`, or assigns them over `base`. */
function scatter(call: KernelCall, base: TensorInfo | undefined, shape: number[]): TensorInfo {
  const [indices, updates] = [call.input('indices'), call.input('updates')];
  const { sliceRank, numUpdates, sliceSize } = tf.backend_util.calculateShapes(
    updates as tf.Tensor,
    indices as tf.Tensor,
    shape,
  );
  checkIndices(call, indices, shape.slice(0, sliceRank));
  const handles = [base ? call.handle(base) : null, call.handle(indices), call.handle(updates)] as const;
  const y = call.ops.scatterNd(...handles, shape.slice(0, sliceRank), sliceSize, numUpdates);
  return call.outputAs(y, shape, base?.dtype ?? updates.dtype);
}
defineNative('ScatterNd', (call) => scatter(call, undefined, call.attr<number[]>('shape')));
defineNative('TensorScatterUpdate', (call) =>
  scatter(call, call.input('tensor'), call.input('tensor').shape),
);

defineNative('UnsortedSegmentSum', (call) => {
  const [x, ids, segments] = [call.input('x'), call.input('segmentIds'), call.attr<number>('numSegments')];
  const slice = x.shape.slice(ids.shape.length);
  const y = call.ops.segmentSum(call.handle(x), call.handle(ids), product(slice), segments);
  return call.outputAs(y, [segments, ...slice], x.dtype === 'float32' ? 'float32' : 'int32');
});

defineNative('OneHot', (call) => {
  const indices = call.input('indices');
  const [depth, dtype] = [call.attr<number>('depth'), call.attr<DataType | undefined>('dtype') ?? 'int32'];
  const y = call.ops.oneHot(
    call.handle(indices),
    storageOf(dtype),
    depth,
    call.attr('onValue'),
    call.attr('offValue'),
  );
  return call.outputAs(y, [...indices.shape, depth], dtype);
});

/** `weights` of no elements count every value once. */
function bincount(call: KernelCall, binary: boolean): TensorInfo {
  const [x, weights, bins] = [call.input('x'), call.input('weights'), call.attr<number>('size')];
  if (x.shape.length > 2)
    throw new RangeError(`${call.kernelName}: x: expected rank 1 or 2, got [${x.shape}]`);
  const rows = x.shape.slice(0, -1);
  return call.temporaries((keep) => {
    const weighted = product(weights.shape) > 0 ? call.handle(weights) : null;
    const counts = keep(call.ops.bincount(call.handle(x), weighted, product(rows), bins, binary));
    return call.outputAs(call.ops.cast(counts, storageOf(weights.dtype)), [...rows, bins], weights.dtype);
  });
}
defineNative('Bincount', (call) => bincount(call, false));
defineNative('DenseBincount', (call) =>
  bincount(call, call.attr<boolean | undefined>('binaryOutput') ?? false),
);

/** Samples by inverting the cumulative distribution at Philox uniforms: the same draws on every device. */
defineNative('Multinomial', (call) => {
  const logits = call.input('logits');
  const [samples, seed] = [call.attr<number>('numSamples'), call.attr<number>('seed')];
  const shape = [logits.shape[0] as number, samples];
  // Any number seeds: its 64 bits are the key.
  const key = new BigUint64Array(Float64Array.of(seed).buffer)[0] as bigint;
  const uniforms = new Float32Array(product(shape));
  new PhiloxStream(key, 0n).fillUniform(uniforms);
  return call.temporaries((keep) => {
    const x = call.handle(logits);
    const probabilities = call.attr<boolean>('normalized')
      ? x
      : keep(call.ops.softmax(x, logits.shape[1] as number));
    const draws = keep(call.backend.native.upload(uniforms, 'f32', shape, 'f32', false));
    return call.output(call.ops.multinomial(probabilities, draws, shape[0] as number), shape, 'int32');
  });
});
