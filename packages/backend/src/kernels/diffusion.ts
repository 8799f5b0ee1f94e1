import type { GuidedStepAttrs } from '../fused/guided-step.js';
import { defineNative } from './define.js';

defineNative('MISquaredNorm', (call) => {
  const [cond, uncond, weights] = [call.input('epsCond'), call.input('epsUncond'), call.input('weights')];
  const mi = call.ops.miSquaredNorm(call.handle(cond), call.handle(uncond), call.handle(weights));
  return call.output(mi, weights.shape, 'float32');
});

defineNative('MISquaredNormGrad', (call) => {
  const cond = call.input('epsCond');
  const [uncond, weights, dy] = [call.input('epsUncond'), call.input('weights'), call.input('dy')];
  const grad = call.ops.miSquaredNormGrad(
    call.handle(cond),
    call.handle(uncond),
    call.handle(weights),
    call.handle(dy),
  );
  return call.output(grad, cond.shape, 'float32');
});

defineNative('GuidedStep', (call) => {
  const get = (name: keyof GuidedStepAttrs): number => call.attr<number>(name);
  const { shape } = call.input('latents');
  const noise = call.optional('noise');
  const [next, eps, mi] = call.ops.guidedStep(
    call.handle(call.input('epsUncond')),
    call.handle(call.input('epsCond')),
    call.handle(call.input('latents')),
    noise ? call.handle(noise) : null,
    get('guidance'),
    get('miWeight'),
    get('cx'),
    get('ce'),
    get('cn'),
  );
  const batch = [shape[0] as number];
  return [
    call.output(next, shape, 'float32'),
    call.output(eps, shape, 'float32'),
    call.output(mi, batch, 'float32'),
  ];
});
