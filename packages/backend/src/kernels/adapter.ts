import type { Handle } from '@equipoise/native';
import type { TensorInfo } from '@tensorflow/tfjs-core';
import type { DoraAttrs } from '../fused/dora-linear.js';
import { defineNative, type KernelCall } from './define.js';
import { product } from './geometry.js';

const rowCount = ({ shape }: TensorInfo): number => product(shape.slice(0, -1));
const inputHandle = (call: KernelCall, name: string): Handle => call.handle(call.input(name));
const optionalHandle = (call: KernelCall, name: string): Handle | null => {
  const tensor = call.optional(name);
  return tensor ? call.handle(tensor) : null;
};
const scalingOf = (call: KernelCall): number => call.attr<DoraAttrs['scaling']>('scaling');

defineNative('DoraNorm', (call) => {
  const weight = call.input('weight');
  const [loraA, loraB] = [inputHandle(call, 'loraA'), inputHandle(call, 'loraB')];
  const norm = call.ops.doraNorm(call.handle(weight), loraA, loraB, scalingOf(call));
  return call.output(norm, [weight.shape[0] as number], 'float32');
});

defineNative('DoraLinear', (call) => {
  const [x, weight, loraA, loraB, ...rest] = call.list() as [TensorInfo, TensorInfo, TensorInfo, TensorInfo];
  const optional = (rest as TensorInfo[]).map((tensor) => call.handle(tensor));
  const [magnitude = null, norm = null] = call.attr<DoraAttrs['dora']>('dora') ? optional.splice(0, 2) : [];
  const [bias = null] = optional;
  const outputs = call.ops.doraLinear(
    call.handle(x),
    call.handle(weight),
    call.handle(loraA),
    call.handle(loraB),
    magnitude,
    norm,
    bias,
    scalingOf(call),
  );
  const channels = weight.shape[0] as number;
  const shapes = [[...x.shape.slice(0, -1), channels], [rowCount(x), loraA.shape[0] as number], [channels]];
  // The native kernel sees x as rows.
  return outputs.map((output, i) => call.outputAs(output as Handle, shapes[i] as number[], 'float32'));
});

defineNative('DoraLinearGradHidden', (call) => {
  const [dy, loraB] = [call.input('dy'), call.input('loraB')];
  const h = call.ops.doraGradHidden(
    call.handle(dy),
    call.handle(loraB),
    optionalHandle(call, 'scale'),
    scalingOf(call),
  );
  return call.output(h, [rowCount(dy), loraB.shape[1] as number], 'float32');
});

defineNative('DoraLinearGradInput', (call) => {
  const [dy, weight] = [call.input('dy'), call.input('weight')];
  const [h, loraA] = [inputHandle(call, 'h'), inputHandle(call, 'loraA')];
  const dx = call.ops.doraGradInput(
    call.handle(dy),
    h,
    call.handle(weight),
    loraA,
    optionalHandle(call, 'scale'),
  );
  return call.output(dx, [rowCount(dy), weight.shape[1] as number], 'float32');
});

defineNative('DoraLinearGradLora', (call) => {
  const [x, dy, u] = [call.input('x'), call.input('dy'), call.input('u')];
  const rank = u.shape[1] as number;
  const [gradA, gradB] = call.ops.doraGradLora(
    call.handle(x),
    call.handle(dy),
    call.handle(u),
    inputHandle(call, 'h'),
    optionalHandle(call, 'scale'),
    scalingOf(call),
  );
  const [inputs, outputs] = [x.shape[x.shape.length - 1] as number, dy.shape[dy.shape.length - 1] as number];
  return [call.output(gradA, [rank, inputs], 'float32'), call.output(gradB, [outputs, rank], 'float32')];
});

defineNative('DoraLinearGradMagnitude', (call) => {
  const names = ['x', 'dy', 'y', 'u', 'weight', 'loraB', 'scale', 'norm'] as const;
  const [x, dy, y, u, weight, loraB, scale, norm] = names.map((name) => inputHandle(call, name)) as [
    Handle,
    Handle,
    Handle,
    Handle,
    Handle,
    Handle,
    Handle,
    Handle,
  ];
  const bias = optionalHandle(call, 'bias');
  const grad = call.ops.doraGradMagnitude(x, dy, y, u, weight, loraB, scale, norm, bias, scalingOf(call));
  return call.output(grad, call.input('norm').shape, 'float32');
});
