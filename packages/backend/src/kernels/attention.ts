import type { Handle } from '@equipoise/native';
import type { AttentionAttrs } from '../fused/attention.js';
import { defineNative, type KernelCall } from './define.js';

const attributes = (call: KernelCall): [number, boolean, number] => [
  call.attr<AttentionAttrs['heads']>('heads'),
  call.attr<AttentionAttrs['causal']>('causal'),
  call.attr<AttentionAttrs['scale']>('scale'),
];

defineNative('Attention', (call) => {
  const [q, k, v] = [call.input('q'), call.input('k'), call.input('v')];
  const [batch = 0, queries = 0] = q.shape;
  const [heads, causal, scale] = attributes(call);
  const [out, logsumexp] = call.ops.attention(
    call.handle(q),
    call.handle(k),
    call.handle(v),
    heads,
    causal,
    scale,
  );
  return [call.output(out, q.shape, 'float32'), call.output(logsumexp, [batch, heads, queries], 'float32')];
});

defineNative('AttentionGrad', (call) => {
  const inputs = (['q', 'k', 'v', 'out', 'logsumexp', 'dy'] as const).map((name) =>
    call.handle(call.input(name)),
  );
  const [q, k, v, out, logsumexp, dy] = inputs as [Handle, Handle, Handle, Handle, Handle, Handle];
  const grads = call.ops.attentionGrad(q, k, v, out, logsumexp, dy, ...attributes(call));
  return grads.map((grad, i) => call.output(grad, call.input(['q', 'k', 'v'][i] as string).shape, 'float32'));
});
