/** Kernels that only touch references: no bytes move. */
import * as tf from '@tensorflow/tfjs-core';
import { defineNative } from './define.js';

defineNative('Identity', (call) => call.alias(call.input('x')));

defineNative('Reshape', (call) => {
  const x = call.input('x');
  const shape = tf.util.inferFromImplicitShape(call.attr<number[]>('shape'), tf.util.sizeFromShape(x.shape));
  if (tf.util.sizeFromShape(shape) !== tf.util.sizeFromShape(x.shape)) {
    throw new RangeError(
      `Reshape: [${x.shape}] has ${tf.util.sizeFromShape(x.shape)} elements, [${shape}] has ${tf.util.sizeFromShape(shape)}`,
    );
  }
  return call.alias(x, shape);
});

defineNative('ExpandDims', (call) => {
  const x = call.input('input');
  const dim = call.attr<number>('dim');
  const at = dim < 0 ? dim + x.shape.length + 1 : dim;
  if (!(at >= 0 && at <= x.shape.length))
    throw new RangeError(`ExpandDims: dim must be in -${x.shape.length + 1}..${x.shape.length}, got ${dim}`);
  return call.alias(x, [...x.shape.slice(0, at), 1, ...x.shape.slice(at)]);
});
