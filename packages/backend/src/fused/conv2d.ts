/**
 * Two-dimensional convolution (cross-correlation), NHWC, with bias and activation in the epilogue.
 *
 *   x [B, H, W, I];  filter [R, S, I, O];  y[b,p,q,o] = act(sum_rsi x[b, p s + r d - t, q s + c d - l, i] f[r,c,i,o] + b_o)
 *   P = floor((H + t + b - d (R - 1) - 1) / s) + 1, and likewise Q; x is zero outside its bounds.
 *   'same' pads so that P = ceil(H / s), the odd row or column at the bottom or right; 'valid' pads nothing.
 *
 * Backward: dx by the transposed convolution of dy, dfilter by correlating x with dy, db = sum of dy. As in `linear`,
 * the activation is its own kernel under a tape.
 *
 * FLOPs: 2 B P Q R S I O forward and for each of dx and dfilter. Bytes: x, filter, bias read and y written once.
 */
import * as tf from '@tensorflow/tfjs-core';
import { ACTIVATIONS, type Activation, activate, composeActivation } from './activation.js';
import { checkInteger, checkKeys, checkOneOf, checkTensor, rangeError, typeError } from './checks.js';
import { defineKernel } from './define.js';
import { checkResidual, type ProductOptions } from './linear.js';

/** Explicit padding: [[top, bottom], [left, right]]. */
export type Padding = [[number, number], [number, number]];

/** Options of {@link conv2d}. */
export interface Conv2DOptions extends ProductOptions {
  pad: 'same' | 'valid' | Padding;
  /** Default 1. */
  stride?: number;
  /** Spacing of the filter's taps. Default 1. */
  dilation?: number;
  /** Applied to the result. Default 'none'. */
  activation?: Activation;
}

/** Geometry shared by the kernels `Conv2DFused`, `Conv2DFusedGradInput` and `Conv2DFusedGradFilter`. */
export interface Conv2DGeometry {
  stride: number;
  dilation: number;
  pad: Padding;
}

/** Inputs of the kernel `Conv2DFused`; bias and residual are absent, not null, where there is none. */
export interface Conv2DInputs {
  x: tf.Tensor;
  filter: tf.Tensor;
  bias?: tf.Tensor;
  residual?: tf.Tensor;
}

type Shape4 = [number, number, number, number];

const upstreamAttrs = ({ stride, pad }: Conv2DGeometry) => ({
  strides: [stride, stride],
  pad: [[0, 0], ...pad, [0, 0]],
  dataFormat: 'NHWC',
});

/** The filter with its taps spread `dilation` apart and zeros between them. */
function spreadFilter(filter: tf.Tensor, dilation: number): tf.Tensor {
  if (dilation === 1) return filter;
  const [r, s, i, o] = filter.shape as Shape4;
  const gap: [number, number] = [0, dilation - 1];
  const spread = tf.pad(tf.reshape(filter, [r, 1, s, 1, i * o]), [[0, 0], gap, [0, 0], gap, [0, 0]]);
  const size: Shape4 = [(r - 1) * dilation + 1, (s - 1) * dilation + 1, i, o];
  return tf.slice(tf.reshape(spread, [r * dilation, s * dilation, i, o]), [0, 0, 0, 0], size);
}

/** The inverse of spreadFilter: every `dilation`-th tap. */
function gatherTaps(filter: tf.Tensor, shape: Shape4, dilation: number): tf.Tensor {
  if (dilation === 1) return filter;
  const [r, s, i, o] = shape;
  const tail: [number, number] = [0, dilation - 1];
  const padded = tf.reshape(tf.pad(filter, [tail, tail, [0, 0], [0, 0]]), [r, dilation, s, dilation, i * o]);
  return tf.reshape(tf.slice(padded, [0, 0, 0, 0, 0], [r, 1, s, 1, i * o]), shape);
}

const runGradInput = defineKernel<
  { dy: tf.Tensor; filter: tf.Tensor },
  Conv2DGeometry & { inputShape: number[] }
>({
  name: 'Conv2DFusedGradInput',
  portable({ dy, filter }, attrs) {
    if (dy.size === 0) return tf.zeros(attrs.inputShape);
    const inputs = { dy, filter: spreadFilter(filter, attrs.dilation) };
    return tf.engine().runKernel('Conv2DBackpropInput', inputs, {
      ...upstreamAttrs(attrs),
      inputShape: attrs.inputShape,
    }) as tf.Tensor;
  },
});

const runGradFilter = defineKernel<
  { x: tf.Tensor; dy: tf.Tensor },
  Conv2DGeometry & { filterShape: number[] }
>({
  name: 'Conv2DFusedGradFilter',
  portable({ x, dy }, attrs) {
    const shape = attrs.filterShape as Shape4;
    if (dy.size === 0) return tf.zeros(shape);
    const [r, s, i, o] = shape;
    const filterShape = [(r - 1) * attrs.dilation + 1, (s - 1) * attrs.dilation + 1, i, o];
    const grad = tf
      .engine()
      .runKernel('Conv2DBackpropFilter', { x, dy }, { ...upstreamAttrs(attrs), filterShape });
    return gatherTaps(grad as tf.Tensor, shape, attrs.dilation);
  },
});

const runConv2D = defineKernel<Conv2DInputs, Conv2DGeometry & { activation: Activation; wide: boolean }>({
  name: 'Conv2DFused',
  portable({ x, filter, bias, residual }, attrs) {
    const { stride, dilation, pad, activation } = attrs;
    const outShape = outputShape(x.shape as Shape4, filter.shape as Shape4, attrs);
    if (outShape.includes(0)) return tf.zeros(outShape);
    const product = tf.engine().runKernel(
      'Conv2D',
      { x, filter },
      {
        strides: [stride, stride],
        pad: [[0, 0], ...pad, [0, 0]],
        dataFormat: 'NHWC',
        dilations: [dilation, dilation],
      },
    ) as tf.Tensor;
    const y = composeActivation(bias === undefined ? product : tf.add(product, bias), activation);
    return residual === undefined ? y : tf.add(y, residual);
  },
  gradient: {
    inputsToSave: ['x', 'filter'],
    backward([dy], saved, { activation, stride, dilation, pad }) {
      if (activation !== 'none')
        throw new Error('Conv2DFused: a fused activation has no gradient: use conv2d()');
      const [x, filter] = saved as [tf.Tensor, tf.Tensor];
      const grad = dy as tf.Tensor;
      const geometry = { stride, dilation, pad };
      return {
        x: () => runGradInput({ dy: grad, filter }, { ...geometry, inputShape: x.shape }),
        filter: () => runGradFilter({ x, dy: grad }, { ...geometry, filterShape: filter.shape }),
        bias: () => tf.sum(grad, [0, 1, 2]),
        residual: () => tf.clone(grad),
      };
    },
  },
});

/** Output shape of a convolution [B, P, Q, O]; P and Q are 0 or less where the filter does not fit. */
export function outputShape(x: Shape4, filter: Shape4, { stride, dilation, pad }: Conv2DGeometry): Shape4 {
  const extent = (size: number, taps: number, [before, after]: [number, number]): number =>
    Math.floor((size + before + after - dilation * (taps - 1) - 1) / stride) + 1;
  return [x[0], extent(x[1], filter[0], pad[0]), extent(x[2], filter[1], pad[1]), filter[3]];
}

function resolvePad(op: string, options: Conv2DOptions, x: Shape4, filter: Shape4): Padding {
  const { pad, stride = 1, dilation = 1 } = options;
  if (pad === 'valid')
    return [
      [0, 0],
      [0, 0],
    ];
  if (pad === 'same') {
    const axis = (size: number, taps: number): [number, number] => {
      const reach = (Math.ceil(size / stride) - 1) * stride + dilation * (taps - 1) + 1;
      const total = Math.max(0, reach - size);
      return [Math.floor(total / 2), total - Math.floor(total / 2)];
    };
    return [axis(x[1], filter[0]), axis(x[2], filter[1])];
  }
  const pairs =
    Array.isArray(pad) && pad.length === 2 && pad.every((pair) => Array.isArray(pair) && pair.length === 2);
  if (!pairs) throw typeError(op, 'pad', "'same', 'valid' or [[top, bottom], [left, right]]", pad);
  for (const size of pad.flat()) checkInteger(op, 'pad', size, 0);
  return pad;
}

/**
 * Convolution of an NHWC image with an HWIO filter, plus bias and activation or residual.
 *
 * @param x [B, H, W, I]
 * @param filter [R, S, I, O]
 * @param bias [O] or null
 * @returns [B, P, Q, O]
 * @throws TypeError on a wrong kind of argument, RangeError on shapes or options that do not fit
 */
export function conv2d(
  x: tf.Tensor,
  filter: tf.Tensor,
  bias: tf.Tensor | null,
  options: Conv2DOptions,
): tf.Tensor4D {
  const op = 'conv2d';
  if (typeof options !== 'object' || options === null)
    throw typeError(op, 'options', 'an object with pad', options);
  checkKeys(op, options, ['pad', 'stride', 'dilation', 'activation', 'residual', 'wide']);
  const { stride = 1, dilation = 1, activation = 'none', residual = null, wide = false } = options;
  checkInteger(op, 'stride', stride, 1);
  checkInteger(op, 'dilation', dilation, 1);
  checkOneOf(op, 'activation', activation, ACTIVATIONS);
  checkTensor(op, 'x', x, [null, null, null, null]);
  checkTensor(op, 'filter', filter, [null, null, x.shape[3] as number, null]);
  if (filter.size === 0) throw rangeError(op, 'filter', 'no empty axis', filter);
  if (bias !== null) checkTensor(op, 'bias', bias, [filter.shape[3] as number]);
  const geometry = {
    stride,
    dilation,
    pad: resolvePad(op, options, x.shape as Shape4, filter.shape as Shape4),
  };
  const shape = outputShape(x.shape as Shape4, filter.shape as Shape4, geometry);
  const [, p, q] = shape;
  if (p < 1 || q < 1) throw rangeError(op, 'x', 'an image that the padded filter fits into', x);
  checkResidual(op, residual, activation, shape);
  const inputs: Conv2DInputs = { x, filter, ...(bias && { bias }), ...(residual && { residual }) };
  if (activation !== 'none' && tf.engine().isTapeOn()) {
    return activate(runConv2D<tf.Tensor4D>(inputs, { ...geometry, activation: 'none', wide }), activation);
  }
  return runConv2D<tf.Tensor4D>(inputs, { ...geometry, activation, wide });
}
