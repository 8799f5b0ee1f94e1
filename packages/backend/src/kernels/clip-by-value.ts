import { defineNative } from './define.js';

defineNative('ClipByValue', (call) => {
  const x = call.input('x');
  const y = call.ops.clip(
    call.handle(x),
    call.attr<number>('clipValueMin'),
    call.attr<number>('clipValueMax'),
  );
  return call.output(y, x.shape, x.dtype);
});
