import { NativeActivation } from '@equipoise/native';
import { defineNative } from './define.js';

for (const name of ['Silu', 'Gelu', 'QuickGelu'] as const) {
  const kind = NativeActivation[name];
  defineNative(name, (call) => {
    const x = call.input('x');
    return call.output(call.ops.activation(kind, call.handle(x), null), x.shape, 'float32');
  });
  defineNative(`${name}Grad`, (call) => {
    const x = call.input('x');
    return call.output(
      call.ops.activation(kind, call.handle(x), call.handle(call.input('dy'))),
      x.shape,
      'float32',
    );
  });
}

defineNative('Geglu', (call) => {
  const x = call.input('x');
  const channels = (x.shape[x.shape.length - 1] as number) / 2;
  return call.output(call.ops.geglu(call.handle(x), null), [...x.shape.slice(0, -1), channels], 'float32');
});

defineNative('GegluGrad', (call) => {
  const x = call.input('x');
  return call.output(call.ops.geglu(call.handle(x), call.handle(call.input('dy'))), x.shape, 'float32');
});
