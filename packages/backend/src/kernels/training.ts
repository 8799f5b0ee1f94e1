import type { AdamWAttrs } from '../fused/adam-w.js';
import type { RandomAttrs } from '../fused/random.js';
import { defineNative } from './define.js';

defineNative('AdamW', (call) => {
  const handles = call.list().map((tensor) => call.handle(tensor));
  const number = (name: keyof AdamWAttrs): number => call.attr<number>(name);
  const norm = call.ops.adamW(
    handles,
    number('step'),
    number('learningRate'),
    number('beta1'),
    number('beta2'),
    number('epsilon'),
    number('weightDecay'),
    number('maxNorm'),
    number('gradientScale'),
  );
  return [call.output(norm, [], 'float32')];
});

for (const name of ['RandomNormal', 'RandomUniform'] as const) {
  defineNative(name, (call) => {
    const shape = call.attr<RandomAttrs['shape']>('shape');
    const [seed, stream] = [
      call.attr<RandomAttrs['seed']>('seed'),
      call.attr<RandomAttrs['stream']>('stream'),
    ];
    const offset = call.attr<RandomAttrs['offset']>('offset');
    return call.output(
      call.ops.philox(shape, ...seed, ...stream, offset, name === 'RandomNormal'),
      shape,
      'float32',
    );
  });
}
