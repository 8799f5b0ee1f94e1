/** Resizing and pooling of NHWC images. */
import type { PoolWindow } from '@equipoise/native';
import type { TensorInfo } from '@tensorflow/tfjs-core';
import * as tf from '@tensorflow/tfjs-core';
import { defineNative, type KernelCall } from './define.js';

type Image = [batch: number, height: number, width: number, channels: number];

/** `image` is the tensor before resizing, `resized` its other form; `x` the one that is given. */
function resize(
  call: KernelCall,
  x: TensorInfo,
  bilinear: boolean,
  backward: boolean,
  image: Image,
  size: [number, number],
): TensorInfo {
  const [batch, height, width, channels] = image;
  const [corners, half] = [
    call.attr<boolean | undefined>('alignCorners') ?? false,
    call.attr<boolean | undefined>('halfPixelCenters') ?? false,
  ];
  const sizes = [batch, height, width, ...size, channels] as const;
  const shape = backward ? image : [batch, ...size, channels];
  return call.temporaries((keep) => {
    const integers = bilinear && x.dtype !== 'float32';
    const handle = integers ? keep(call.ops.cast(call.handle(x), 'f32')) : call.handle(x);
    return call.output(
      call.ops.resize(handle, bilinear, backward, corners, half, sizes),
      shape,
      integers ? 'float32' : x.dtype,
    );
  });
}

for (const [kernel, bilinear] of [
  ['ResizeNearestNeighbor', false],
  ['ResizeBilinear', true],
] as const) {
  defineNative(kernel, (call) => {
    const images = call.input('images');
    return resize(call, images, bilinear, false, images.shape as Image, call.attr<[number, number]>('size'));
  });
  defineNative(`${kernel}Grad`, (call) => {
    const dy = call.input('dy');
    return resize(
      call,
      dy,
      bilinear,
      true,
      call.input('images').shape as Image,
      dy.shape.slice(1, 3) as [number, number],
    );
  });
}

/** Window geometry of a pooling op on x; undefined attributes have TensorFlow.js's defaults. */
function poolWindow(
  call: KernelCall,
  x: TensorInfo,
): { window: PoolWindow; outShape: number[]; identity: boolean } {
  const attr = <T>(name: string): T => call.attr<T>(name);
  const info = tf.backend_util.computePool2DInfo(
    x.shape as Image,
    attr('filterSize'),
    attr('strides'),
    1,
    attr('pad'),
    attr('dimRoundingMode'),
  );
  const window = [
    info.batchSize,
    info.inHeight,
    info.inWidth,
    info.inChannels,
    info.outHeight,
    info.outWidth,
    info.filterHeight,
    info.filterWidth,
    info.strideHeight,
    info.strideWidth,
    info.dilationHeight,
    info.dilationWidth,
    info.padInfo.top,
    info.padInfo.left,
  ];
  const single = info.filterHeight === 1 && info.filterWidth === 1;
  return {
    window,
    outShape: info.outShape,
    identity: single && tf.util.arraysEqual(info.inShape, info.outShape),
  };
}

for (const [kernel, op] of [
  ['MaxPool', 'maxPool'],
  ['AvgPool', 'avgPool'],
] as const) {
  defineNative(kernel, (call) => {
    const x = call.input('x');
    const { window, outShape, identity } = poolWindow(call, x);
    return identity ? call.alias(x) : call.output(call.ops[op](call.handle(x), window), outShape, x.dtype);
  });
}

defineNative('MaxPoolGrad', (call) => {
  const x = call.input('input');
  return call.output(
    call.ops.maxPoolGrad(call.handle(x), call.handle(call.input('dy')), poolWindow(call, x).window),
    x.shape,
    'float32',
  );
});
defineNative('AvgPoolGrad', (call) => {
  const x = call.input('input');
  return call.output(
    call.ops.avgPoolGrad(null, call.handle(call.input('dy')), poolWindow(call, x).window),
    x.shape,
    'float32',
  );
});
