/** Convolutions: Conv2D, FusedConv2D and the gradients, and the fused `Conv2DFused` with its gradients. */
import { type ConvWindow, FusedActivation, type Handle } from '@equipoise/native';
import type { TensorInfo } from '@tensorflow/tfjs-core';
import * as tf from '@tensorflow/tfjs-core';
import type { Activation } from '../fused/activation.js';
import { type Conv2DGeometry, outputShape } from '../fused/conv2d.js';
import { defineNative, type KernelCall } from './define.js';
import { type FusedPlan, finishFused, planFused } from './fused-activation.js';
import { LAYER_ACTIVATIONS } from './mat-mul.js';

type Shape4 = [number, number, number, number];
type Pad = Parameters<typeof tf.backend_util.computeConv2DInfo>[4];

const CHANNELS_LAST = [0, 3, 1, 2];
const CHANNELS_FIRST = [0, 2, 3, 1];

const isChannelsFirst = (call: KernelCall): boolean => {
  const format = call.attr<string | undefined>('dataFormat') ?? 'NHWC';
  if (format !== 'NHWC' && format !== 'NCHW')
    throw new RangeError(`${call.kernelName}: dataFormat: expected NHWC or NCHW, got ${format}`);
  return format === 'NCHW';
};

function transpose(call: KernelCall, x: TensorInfo, perm: number[]): TensorInfo {
  const kernel = tf.getKernel('Transpose', tf.getBackend());
  if (kernel == null) throw new Error(`${call.kernelName}: NCHW images need the kernel Transpose`);
  return kernel.kernelFunc({ inputs: { x }, attrs: { perm }, backend: call.backend }) as TensorInfo;
}

/** Runs `compute` on NHWC images; NCHW ones are transposed before and, where it is an image (`toImage`), the result after. */
function inNhwc(
  call: KernelCall,
  inputs: TensorInfo[],
  toImage: boolean,
  compute: (images: TensorInfo[]) => TensorInfo,
): TensorInfo {
  if (!isChannelsFirst(call)) return compute(inputs);
  const images = inputs.map((info) => transpose(call, info, CHANNELS_FIRST));
  const result = compute(images);
  for (const image of images) call.dispose(image);
  if (!toImage) return result;
  const back = transpose(call, result, CHANNELS_LAST);
  call.dispose(result);
  return back;
}

const toNhwc = ([n, c, h, w]: Shape4): Shape4 => [n, h, w, c];

/** Geometry from TensorFlow.js's attributes, for an NHWC image. */
function upstreamWindow(
  call: KernelCall,
  image: number[],
  filter: number[],
  dilations: number | number[] = 1,
): { window: ConvWindow; outShape: Shape4 } {
  let pad = call.attr<Pad>('pad');
  // Explicit padding comes per axis of the data format.
  if (Array.isArray(pad) && isChannelsFirst(call)) pad = [pad[0], pad[2], pad[3], pad[1]] as typeof pad;
  const info = tf.backend_util.computeConv2DInfo(
    image as Shape4,
    filter as Shape4,
    call.attr<number | [number, number]>('strides'),
    dilations as [number, number],
    pad,
    call.attr<'floor' | 'round' | 'ceil' | undefined>('dimRoundingMode'),
    false,
    'channelsLast',
  );
  const { padInfo, outHeight, outWidth } = info;
  return {
    window: [
      info.strideHeight,
      info.strideWidth,
      info.dilationHeight,
      info.dilationWidth,
      padInfo.top,
      padInfo.left,
      outHeight,
      outWidth,
    ],
    outShape: info.outShape as Shape4,
  };
}

const PLAIN: FusedPlan = { epilogue: { bias: null, activation: FusedActivation.None, leak: 0, prelu: null } };

function forward(call: KernelCall, plan: (channels: number) => FusedPlan): TensorInfo {
  const filter = call.input('filter');
  const fused = plan(filter.shape[3] as number);
  const { bias, activation, leak, prelu } = fused.epilogue;
  const result = inNhwc(call, [call.input('x')], true, ([x]) => {
    const image = x as TensorInfo;
    const { window, outShape } = upstreamWindow(call, image.shape, filter.shape, call.attr('dilations'));
    const y = call.ops.conv2d(
      call.handle(image),
      call.handle(filter),
      window,
      bias,
      activation,
      leak,
      prelu,
      false,
      null,
    );
    return call.output(y, outShape, 'float32');
  });
  return finishFused(call, result, fused);
}

defineNative('Conv2D', (call) => forward(call, () => PLAIN));
defineNative('FusedConv2D', (call) =>
  forward(call, (channels) => planFused(call, channels, isChannelsFirst(call))),
);

/** conv2dTranspose may pass a larger dy than the convolution of its output gives: the excess takes no part. */
function cropped(call: KernelCall, dy: TensorInfo, shape: Shape4): TensorInfo {
  if (dy.shape.every((size, i) => size <= (shape[i] as number))) return dy;
  const kernel = tf.getKernel('Slice', tf.getBackend());
  if (kernel == null)
    throw new Error(`${call.kernelName}: a dy larger than the output needs the kernel Slice`);
  return kernel.kernelFunc({
    inputs: { x: dy },
    attrs: { begin: [0, 0, 0, 0], size: shape },
    backend: call.backend,
  }) as TensorInfo;
}

defineNative('Conv2DBackpropInput', (call) => {
  const filter = call.input('filter');
  const asked = call.attr<Shape4>('inputShape');
  const shape = isChannelsFirst(call) ? toNhwc(asked) : asked;
  return inNhwc(call, [call.input('dy')], true, ([given]) => {
    const { window, outShape } = upstreamWindow(call, shape, filter.shape);
    const dy = cropped(call, given as TensorInfo, outShape);
    const dx = call.ops.conv2dGradInput(call.handle(dy), call.handle(filter), shape, window);
    if (dy !== given) call.dispose(dy);
    return call.output(dx, shape, 'float32');
  });
});

defineNative('Conv2DBackpropFilter', (call) => {
  const shape = call.attr<Shape4>('filterShape');
  return inNhwc(call, [call.input('x'), call.input('dy')], false, (images) => {
    const [x, dy] = images as [TensorInfo, TensorInfo];
    const { window } = upstreamWindow(call, x.shape, shape);
    return call.output(
      call.ops.conv2dGradFilter(call.handle(x), call.handle(dy), shape, window),
      shape,
      'float32',
    );
  });
});

/** Window of the fused convolution, whose padding is explicit. */
function fusedWindow(
  call: KernelCall,
  x: number[],
  filter: number[],
): { window: ConvWindow; outShape: Shape4 } {
  const geometry: Conv2DGeometry = {
    stride: call.attr('stride'),
    dilation: call.attr('dilation'),
    pad: call.attr('pad'),
  };
  const { stride, dilation, pad } = geometry;
  const outShape = outputShape(x as Shape4, filter as Shape4, geometry);
  return {
    window: [stride, stride, dilation, dilation, pad[0][0], pad[1][0], outShape[1], outShape[2]],
    outShape,
  };
}

const handles = (call: KernelCall, ...names: string[]): Handle[] =>
  names.map((name) => call.handle(call.input(name)));

defineNative('Conv2DFused', (call) => {
  const [x, filter] = handles(call, 'x', 'filter') as [Handle, Handle];
  const [bias, residual] = [call.optional('bias'), call.optional('residual')].map(
    (input) => input && call.handle(input),
  );
  const { window, outShape } = fusedWindow(call, call.input('x').shape, call.input('filter').shape);
  const activation = LAYER_ACTIVATIONS[call.attr<Activation>('activation')];
  const wide = call.attr<boolean>('wide');
  const y = call.ops.conv2d(x, filter, window, bias ?? null, activation, 0, null, wide, residual ?? null);
  return call.output(y, outShape, 'float32');
});

defineNative('Conv2DFusedGradInput', (call) => {
  const [dy, filter] = handles(call, 'dy', 'filter') as [Handle, Handle];
  const shape = call.attr<number[]>('inputShape');
  const { window } = fusedWindow(call, shape, call.input('filter').shape);
  return call.output(call.ops.conv2dGradInput(dy, filter, shape, window), shape, 'float32');
});

defineNative('Conv2DFusedGradFilter', (call) => {
  const [x, dy] = handles(call, 'x', 'dy') as [Handle, Handle];
  const shape = call.attr<number[]>('filterShape');
  const { window } = fusedWindow(call, call.input('x').shape, shape);
  return call.output(call.ops.conv2dGradFilter(x, dy, shape, window), shape, 'float32');
});
