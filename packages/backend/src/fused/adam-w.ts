/**
 * AdamW over many parameters at once (Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019), in the
 * order of PyTorch's torch.optim.AdamW, with optional clipping by the global norm as clip_grad_norm_ does it.
 *
 *   g   = gradientScale * gradient, all parameters;   norm = |all g|
 *   g  *= min(1, maxNorm / (norm + 1e-6))             (only with maxNorm)
 *   p  *= 1 - lr * weightDecay
 *   m   = beta1 m + (1 - beta1) g;   v = beta2 v + (1 - beta2) g^2
 *   p  -= lr / (1 - beta1^step) * m / (sqrt(v) / sqrt(1 - beta2^step) + epsilon)
 *
 * Native engines update p, m and v where they lie, in one launch; elsewhere the variables are assigned.
 * Bytes: 28 per element (p, m, v read and written, g read), 4 more for the norm. FLOPs: about 14 per element.
 */
import * as tf from '@tensorflow/tfjs-core';
import { currentDevice } from '../backend.js';
import { toStorage } from '../storage.js';
import { checkInteger, checkKeys, checkNumber, checkTensor, rangeError, typeError } from './checks.js';
import { defineKernel, isPortable } from './define.js';

/** A parameter with its gradient and its moments, all of one shape. */
export interface AdamWParameter {
  parameter: tf.Variable;
  gradient: tf.Tensor;
  /** First moment; zeros before the first step. */
  m: tf.Variable;
  /** Second moment; zeros before the first step. */
  v: tf.Variable;
}

/** Options of {@link adamW}. */
export interface AdamWOptions {
  /** Number of this update, from 1. */
  step: number;
  learningRate: number;
  /** Default 0.9. */
  beta1?: number;
  /** Default 0.999. */
  beta2?: number;
  /** Added outside the square root. Default 1e-8. */
  epsilon?: number;
  /** Decoupled weight decay. Default 0.01, PyTorch's; 0 gives Adam. */
  weightDecay?: number;
  /** Largest global gradient norm; absent for no clipping. */
  maxNorm?: number;
  /** Factor on all gradients before anything else, such as 1 / accumulated micro-batches. Default 1. */
  gradientScale?: number;
}

/** Attributes of the kernel `AdamW`. */
export interface AdamWAttrs {
  step: number;
  learningRate: number;
  beta1: number;
  beta2: number;
  epsilon: number;
  weightDecay: number;
  /** 0 for no clipping. */
  maxNorm: number;
  gradientScale: number;
}

/**
 * Inputs of the kernel `AdamW`: parameter, gradient, m, v of the first parameter, then of the second, and so on.
 * It returns [norm []], having updated parameters and moments in place, or [norm [], p, m, v, p, m, v, ...].
 */
export type AdamWInputs = tf.Tensor[];

function globalNorm(gradients: tf.Tensor[]): tf.Scalar {
  const squares = gradients.map((gradient) => tf.sum(tf.square(gradient)));
  return tf.sqrt(tf.addN(squares)) as tf.Scalar;
}

const run = defineKernel<AdamWInputs, AdamWAttrs>({
  name: 'AdamW',
  portable(inputs, attrs) {
    const { step, learningRate, beta1, beta2, epsilon, weightDecay, maxNorm, gradientScale } = attrs;
    const count = inputs.length / 4;
    const at = (i: number, part: number): tf.Tensor => inputs[4 * i + part] as tf.Tensor;
    const gradients = Array.from({ length: count }, (_, i) => tf.mul(gradientScale, at(i, 1)));
    const norm = globalNorm(gradients);
    const clip = maxNorm > 0 ? tf.minimum(1, tf.div(maxNorm, tf.add(norm, 1e-6))) : tf.scalar(1);
    const stepSize = learningRate / (1 - beta1 ** step);
    const correction = Math.sqrt(1 - beta2 ** step);
    const updated = gradients.flatMap((gradient, i) => {
      const g = tf.mul(gradient, clip);
      const m = tf.add(tf.mul(beta1, at(i, 2)), tf.mul(1 - beta1, g));
      const v = tf.add(tf.mul(beta2, at(i, 3)), tf.mul(1 - beta2, tf.square(g)));
      const ratio = tf.div(m, tf.add(tf.div(tf.sqrt(v), correction), epsilon));
      return [tf.sub(tf.mul(1 - learningRate * weightDecay, at(i, 0)), tf.mul(stepSize, ratio)), m, v];
    });
    return [norm, ...updated];
  },
});

function checkParameters(op: string, parameters: readonly AdamWParameter[]): void {
  if (!Array.isArray(parameters)) throw typeError(op, 'parameters', 'an array', parameters);
  if (parameters.length === 0) throw rangeError(op, 'parameters', 'at least one parameter', parameters);
  const seen = new Set<tf.Tensor>();
  parameters.forEach((entry, i) => {
    for (const name of ['parameter', 'm', 'v'] as const) {
      const label = `parameters[${i}].${name}`;
      const variable = entry[name];
      if (!(variable instanceof tf.Variable)) throw typeError(op, label, 'a variable', variable);
      checkTensor(op, label, variable, entry.parameter.shape);
      if (seen.has(variable)) throw rangeError(op, label, 'a variable that occurs once', variable);
      seen.add(variable);
    }
    checkTensor(op, `parameters[${i}].gradient`, entry.gradient, entry.parameter.shape);
  });
}

function resolve(op: string, options: AdamWOptions): AdamWAttrs {
  if (typeof options !== 'object' || options === null) throw typeError(op, 'options', 'an object', options);
  const { step, learningRate, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, weightDecay = 0.01 } = options;
  const { maxNorm, gradientScale = 1 } = options;
  const attrs = {
    step,
    learningRate,
    beta1,
    beta2,
    epsilon,
    weightDecay,
    maxNorm: maxNorm ?? 0,
    gradientScale,
  };
  checkKeys(op, options, Object.keys(attrs));
  checkInteger(op, 'step', step, 1);
  for (const name of ['learningRate', 'epsilon', 'weightDecay'] as const)
    checkNumber(op, name, attrs[name], 0);
  for (const name of ['beta1', 'beta2'] as const) {
    checkNumber(op, name, attrs[name], 0);
    if (attrs[name] >= 1) throw rangeError(op, name, 'a number below 1', attrs[name]);
  }
  checkNumber(op, 'gradientScale', gradientScale);
  if (maxNorm !== undefined) {
    checkNumber(op, 'maxNorm', maxNorm);
    if (maxNorm <= 0) throw rangeError(op, 'maxNorm', 'a number above 0', maxNorm);
  }
  return attrs;
}

/**
 * Gives a variable f32 memory of its own: an in-place update must reach neither clones that share a variable's data
 * nor a frozen weight, and would lose itself in bf16's rounding.
 */
function ownMemory(variable: tf.Variable): void {
  const device = currentDevice();
  const info = device?.native.info(device.handle(variable, 'AdamW'));
  const ready = info === undefined || (!info.frozen && info.storage === 'f32');
  if (ready && tf.backend().refCount(variable.dataId) === 1) return;
  tf.tidy(() => variable.assign(toStorage(tf.add(variable, 0), 'f32')));
}

/**
 * One AdamW update of all parameters, in place.
 *
 * @returns the global norm of the scaled gradients before clipping, a scalar to dispose of
 * @throws TypeError on a wrong kind of argument, RangeError on shapes or numbers that do not fit
 */
export function adamW(parameters: readonly AdamWParameter[], options: AdamWOptions): tf.Scalar {
  const op = 'adamW';
  const attrs = resolve(op, options);
  checkParameters(op, parameters);
  return tf.tidy(() => {
    if (!isPortable('AdamW'))
      for (const { parameter, m, v } of parameters) [parameter, m, v].forEach(ownMemory);
    const inputs = parameters.flatMap(
      ({ parameter, gradient, m, v }) => [parameter, gradient, m, v] as tf.Tensor[],
    );
    const [norm, ...updated] = run<[tf.Scalar, ...tf.Tensor[]]>(inputs, attrs);
    updated.forEach((value, i) => {
      const { parameter, m, v } = parameters[Math.floor(i / 3)] as AdamWParameter;
      ([parameter, m, v][i % 3] as tf.Variable).assign(value);
    });
    return norm;
  });
}
