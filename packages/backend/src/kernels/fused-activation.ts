/**
 * The epilogue of TensorFlow.js's fused kernels: bias and activation. What varies over the output's last axis alone,
 * or not at all, goes into the native kernel; a bias or PReLU slope that varies over other axes follows as an
 * ordinary kernel, as does the activation after such a bias.
 */
import { FusedActivation, type Handle } from '@equipoise/native';
import type { TensorInfo } from '@tensorflow/tfjs-core';
import * as tf from '@tensorflow/tfjs-core';
import type { KernelCall } from './define.js';

const ACTIVATIONS: Record<string, FusedActivation> = {
  linear: FusedActivation.None,
  relu: FusedActivation.Relu,
  relu6: FusedActivation.Relu6,
  elu: FusedActivation.Elu,
  leakyrelu: FusedActivation.LeakyRelu,
  prelu: FusedActivation.Prelu,
  sigmoid: FusedActivation.Sigmoid,
};

/** Kernels that apply an activation on its own. */
const KERNELS: Record<string, string> = {
  relu: 'Relu',
  relu6: 'Relu6',
  elu: 'Elu',
  leakyrelu: 'LeakyRelu',
  prelu: 'Prelu',
  sigmoid: 'Sigmoid',
};

export interface FusedPlan {
  epilogue: { bias: Handle | null; activation: FusedActivation; leak: number; prelu: Handle | null };
  /** Left to ordinary kernels. */
  bias?: TensorInfo;
  activation?: string;
}

/** Whether a tensor varies over channels alone; these are the last axis, or in NCHW any axis but the last two. */
function perChannel({ shape }: TensorInfo, channels: number, channelsFirst: boolean): boolean {
  const size = tf.util.sizeFromShape(shape);
  if (size === 1) return true;
  return size === channels && (shape.length === 1 || shape.at(channelsFirst ? -3 : -1) === channels);
}

/**
 * Reads bias, activation, preluActivationWeights and leakyreluAlpha of a fused kernel.
 * @param channels size of the native output's last axis
 * @param channelsFirst whether the kernel's images are NCHW, which bias and slopes then broadcast with
 * @throws RangeError on an unknown activation
 */
export function planFused(call: KernelCall, channels: number, channelsFirst = false): FusedPlan {
  const name = call.attr<string | undefined>('activation') ?? 'linear';
  const activation = ACTIVATIONS[name];
  if (activation === undefined) {
    throw new RangeError(
      `${call.kernelName}: activation: expected ${Object.keys(ACTIVATIONS).join(', ')}, got ${name}`,
    );
  }
  const bias = call.optional('bias');
  const slopes = call.optional('preluActivationWeights');
  if (name === 'prelu' && !slopes)
    throw new TypeError(`${call.kernelName}: activation prelu needs preluActivationWeights`);
  const leak = call.attr<number | undefined>('leakyreluAlpha') ?? 0.2;
  const fits = (info: TensorInfo): boolean => perChannel(info, channels, channelsFirst);
  const fusedBias = !bias || fits(bias);
  const fusedActivation = fusedBias && (name !== 'prelu' || fits(slopes as TensorInfo));
  return {
    epilogue: {
      bias: bias && fusedBias ? call.handle(bias) : null,
      activation: fusedActivation ? activation : FusedActivation.None,
      leak,
      prelu: fusedActivation && name === 'prelu' ? call.handle(slopes as TensorInfo) : null,
    },
    ...(bias && !fusedBias && { bias }),
    ...(!fusedActivation && name !== 'linear' && { activation: name }),
  };
}

/** Runs what the plan leaves to ordinary kernels; takes over `product`. */
export function finishFused(call: KernelCall, product: TensorInfo, plan: FusedPlan): TensorInfo {
  let result = product;
  const follow = (kernelName: string, inputs: tf.NamedTensorInfoMap, attrs: tf.NamedAttrMap = {}): void => {
    const kernel = tf.getKernel(kernelName, tf.getBackend());
    if (kernel == null) throw new Error(`${call.kernelName}: kernel ${kernelName} is not registered`);
    const next = kernel.kernelFunc({ inputs, attrs, backend: call.backend }) as TensorInfo;
    call.dispose(result);
    result = next;
  };
  if (plan.bias) follow('Add', { a: result, b: plan.bias });
  if (plan.activation === 'prelu')
    follow('Prelu', { x: result, alpha: call.input('preluActivationWeights') });
  else if (plan.activation)
    follow(KERNELS[plan.activation] as string, { x: result }, { alpha: plan.epilogue.leak });
  return result;
}
