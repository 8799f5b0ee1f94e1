import type { Handle } from '@equipoise/native';
import type { TensorInfo } from '@tensorflow/tfjs-core';
import type { GroupNormAttrs } from '../fused/group-norm.js';
import { defineNative, type KernelCall } from './define.js';
import { product } from './geometry.js';

const handles = <N extends string>(call: KernelCall, ...names: N[]): Record<N, Handle> =>
  Object.fromEntries(names.map((name) => [name, call.handle(call.input(name))])) as Record<N, Handle>;

/** Parameter gradients have the shape of the last axis. */
const parameterGradients = (call: KernelCall, gradients: Handle[]): TensorInfo[] => {
  const channels = call.input('x').shape.slice(-1);
  return gradients.map((gradient) => call.output(gradient, channels, 'float32'));
};

defineNative('LayerNorm', (call) => {
  const { shape } = call.input('x');
  const { x, gamma, beta } = handles(call, 'x', 'gamma', 'beta');
  const [y, mean, rstd] = call.ops.layerNorm(x, gamma, beta, call.attr('epsilon'));
  const rows = [product(shape.slice(0, -1))];
  return [
    call.output(y, shape, 'float32'),
    call.output(mean, rows, 'float32'),
    call.output(rstd, rows, 'float32'),
  ];
});

defineNative('LayerNormGrad', (call) => {
  const { x, gamma, mean, rstd, dy } = handles(call, 'x', 'gamma', 'mean', 'rstd', 'dy');
  return call.output(call.ops.layerNormGrad(x, gamma, mean, rstd, dy), call.input('x').shape, 'float32');
});

defineNative('LayerNormParamGrad', (call) => {
  const { x, mean, rstd, dy } = handles(call, 'x', 'mean', 'rstd', 'dy');
  return parameterGradients(call, call.ops.layerNormParamGrad(x, mean, rstd, dy));
});

const groupsOf = (call: KernelCall): number => call.attr<GroupNormAttrs['groups']>('groups');
const isSilu = (call: KernelCall): boolean =>
  call.attr<GroupNormAttrs['activation']>('activation') === 'silu';

defineNative('GroupNorm', (call) => {
  const { shape } = call.input('x');
  const { x, gamma, beta } = handles(call, 'x', 'gamma', 'beta');
  const [y, mean, rstd] = call.ops.groupNorm(
    x,
    gamma,
    beta,
    groupsOf(call),
    call.attr('epsilon'),
    isSilu(call),
  );
  const stats = [shape[0] as number, groupsOf(call)];
  return [
    call.output(y, shape, 'float32'),
    call.output(mean, stats, 'float32'),
    call.output(rstd, stats, 'float32'),
  ];
});

function groupNormGrad(call: KernelCall, parameters: boolean): Handle[] {
  const { x, gamma, beta, mean, rstd, dy } = handles(call, 'x', 'gamma', 'beta', 'mean', 'rstd', 'dy');
  return call.ops.groupNormGrad(x, gamma, beta, mean, rstd, dy, groupsOf(call), isSilu(call), parameters);
}

defineNative('GroupNormGrad', (call) =>
  call.output(groupNormGrad(call, false)[0] as Handle, call.input('x').shape, 'float32'),
);

defineNative('GroupNormParamGrad', (call) => parameterGradients(call, groupNormGrad(call, true)));
