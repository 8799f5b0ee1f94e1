/** Matrix products: BatchMatMul, _FusedMatMul, and the fused `Linear`. */
import { FusedActivation } from '@equipoise/native';
import type { TensorInfo } from '@tensorflow/tfjs-core';
import * as tf from '@tensorflow/tfjs-core';
import type { Activation } from '../fused/activation.js';
import { defineNative, type KernelCall } from './define.js';
import { finishFused, planFused } from './fused-activation.js';

/** Output shape of a product whose batch axes broadcast. */
function productShape(
  kernel: string,
  a: TensorInfo,
  b: TensorInfo,
  transposeA: boolean,
  transposeB: boolean,
): number[] {
  const inner = [a.shape.at(transposeA ? -2 : -1), b.shape.at(transposeB ? -1 : -2)];
  if (inner[0] !== inner[1]) {
    throw new RangeError(
      `${kernel}: inner sizes ${inner[0]} and ${inner[1]} of [${a.shape}] and [${b.shape}] differ`,
    );
  }
  const batch = tf.broadcast_util.assertAndGetBroadcastShape(a.shape.slice(0, -2), b.shape.slice(0, -2));
  return [...batch, a.shape.at(transposeA ? -1 : -2) as number, b.shape.at(transposeB ? -2 : -1) as number];
}

const transposes = (call: KernelCall): [boolean, boolean] => [
  call.attr<boolean | undefined>('transposeA') ?? false,
  call.attr<boolean | undefined>('transposeB') ?? false,
];

defineNative('BatchMatMul', (call) => {
  const [a, b] = [call.input('a'), call.input('b')];
  const shape = productShape('BatchMatMul', a, b, ...transposes(call));
  return call.output(
    call.ops.matMul(call.handle(a), call.handle(b), ...transposes(call), false),
    shape,
    a.dtype,
  );
});

defineNative('_FusedMatMul', (call) => {
  const [a, b] = [call.input('a'), call.input('b')];
  const shape = productShape('_FusedMatMul', a, b, ...transposes(call));
  const plan = planFused(call, shape.at(-1) as number);
  const { bias, activation, leak, prelu } = plan.epilogue;
  const product = call.ops.fusedMatMul(
    call.handle(a),
    call.handle(b),
    ...transposes(call),
    bias,
    activation,
    leak,
    prelu,
    null,
    0,
    1,
    false,
  );
  return finishFused(call, call.output(product, shape, 'float32'), plan);
});

/** Activations of the fused layers as the native kernels number them. */
export const LAYER_ACTIVATIONS: Record<Activation, FusedActivation> = {
  none: FusedActivation.None,
  relu: FusedActivation.Relu,
  silu: FusedActivation.Silu,
  gelu: FusedActivation.Gelu,
  quick_gelu: FusedActivation.QuickGelu,
};

defineNative('Linear', (call) => {
  const [x, weight] = [call.input('x'), call.input('weight')];
  const [bias, residual] = [call.optional('bias'), call.optional('residual')];
  const activation = LAYER_ACTIVATIONS[call.attr<Activation>('activation')];
  const y = call.ops.linear(
    call.handle(x),
    call.handle(weight),
    bias ? call.handle(bias) : null,
    activation,
    null,
    null,
    1,
    null,
    call.attr('wide'),
    residual ? call.handle(residual) : null,
  );
  return call.output(y, [...x.shape.slice(0, -1), weight.shape[0] as number], 'float32');
});

/** dW = dy^T x for a trained weight: stored as f32 whatever dy and x are. */
defineNative('LinearGradWeight', (call) => {
  const [dy, x] = [call.input('dy'), call.input('x')];
  const shape = [dy.shape.at(-1) as number, x.shape.at(-1) as number];
  return call.output(call.ops.matMul(call.handle(dy), call.handle(x), true, false, true), shape, 'float32');
});
