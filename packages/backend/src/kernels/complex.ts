/** complex64 tensors: pairs of float32 tensors, computed part by part. */
import type { Handle } from '@equipoise/native';
import type { TensorInfo } from '@tensorflow/tfjs-core';
import * as tf from '@tensorflow/tfjs-core';
import { defineNative, type KernelCall } from './define.js';

/** Applies a kernel that treats every element alike to both parts of a complex tensor. */
export function mapParts(call: KernelCall, x: TensorInfo, map: (part: TensorInfo) => TensorInfo): TensorInfo {
  const { real, imag } = call.backend.complexParts(x);
  return call.backend.registerComplex(map({ ...real, shape: x.shape }), map({ ...imag, shape: x.shape }));
}

defineNative('Complex', (call) =>
  call.backend.registerComplex(call.alias(call.input('real')), call.alias(call.input('imag'))),
);

const part = (name: 'real' | 'imag') => (call: KernelCall) => {
  const x = call.input('input');
  return call.alias(call.backend.complexParts(x)[name], x.shape);
};
defineNative('Real', part('real'));
defineNative('Imag', part('imag'));

/** sqrt(re^2 + im^2), scaled by the greater part so that the squares do not overflow. */
defineNative('ComplexAbs', (call) => {
  const x = call.input('x');
  const parts = call.backend.complexParts(x);
  const { ops } = call;
  return call.temporaries((keep) => {
    const re = keep(ops.abs(call.handle({ ...parts.real, shape: x.shape })));
    const im = keep(ops.abs(call.handle({ ...parts.imag, shape: x.shape })));
    const large = keep(ops.maximum(re, im));
    const ratio = keep(ops.realDiv(keep(ops.minimum(re, im)), large));
    const one = keep(ops.fill('f32', [], 1));
    const length = keep(ops.multiply(large, keep(ops.sqrt(keep(ops.add(keep(ops.square(ratio)), one))))));
    // 0/0 and inf/inf: the length is the greater part itself.
    const degenerate = keep(
      ops.logicalOr(keep(ops.equal(large, keep(ops.fill('f32', [], 0)))), keep(ops.isInf(large))),
    );
    return call.output(ops.select(degenerate, large, length), x.shape, 'float32');
  });
});

type Parts = { re: Handle; im: Handle };
const combine: Record<
  string,
  (call: KernelCall, keep: (handle: Handle) => Handle, a: Parts, b: Parts) => Parts
> = {
  Add: ({ ops }, _keep, a, b) => ({ re: ops.add(a.re, b.re), im: ops.add(a.im, b.im) }),
  Sub: ({ ops }, _keep, a, b) => ({ re: ops.sub(a.re, b.re), im: ops.sub(a.im, b.im) }),
  Multiply: ({ ops }, keep, a, b) => ({
    re: ops.sub(keep(ops.multiply(a.re, b.re)), keep(ops.multiply(a.im, b.im))),
    im: ops.add(keep(ops.multiply(a.re, b.im)), keep(ops.multiply(a.im, b.re))),
  }),
};

/** a op b for complex64, where op is Add, Sub or Multiply. */
export function complexBinary(call: KernelCall, a: TensorInfo, b: TensorInfo): TensorInfo {
  const compute = combine[call.kernelName];
  if (!compute) throw new TypeError(`${call.kernelName}: complex64 tensors are not supported`);
  const parts = (x: TensorInfo): Parts => {
    const { real, imag } = call.backend.complexParts(x);
    return { re: call.handle({ ...real, shape: x.shape }), im: call.handle({ ...imag, shape: x.shape }) };
  };
  const shape = tf.backend_util.assertAndGetBroadcastShape(a.shape, b.shape);
  const { re, im } = call.temporaries((keep) => compute(call, keep, parts(a), parts(b)));
  return call.backend.registerComplex(call.output(re, shape, 'float32'), call.output(im, shape, 'float32'));
}
