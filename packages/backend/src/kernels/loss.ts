import type { DirectionAlignmentAttrs } from '../fused/direction-alignment-loss.js';
import { defineNative } from './define.js';

defineNative('DirectionAlignmentLoss', (call) => {
  const get = <K extends keyof DirectionAlignmentAttrs>(name: K) =>
    call.attr<DirectionAlignmentAttrs[K]>(name);
  const { shape } = call.input('text');
  const categories = get('categories');
  const [loss, gradient, parts, pairCosine] = call.ops.directionAlignment(
    call.handle(call.input('text')),
    call.handle(call.input('original')),
    call.handle(call.input('imageMeans')),
    get('before'),
    categories,
    get('after'),
    get('consistency'),
    get('present'),
  );
  return [
    call.output(loss, [], 'float32'),
    call.output(gradient, shape, 'float32'),
    call.output(parts, [3], 'float32'),
    call.output(pairCosine, [(categories * (categories - 1)) / 2], 'float32'),
  ];
});
