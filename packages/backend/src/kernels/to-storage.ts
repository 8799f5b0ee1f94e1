import type { Storage } from '@equipoise/native';
import { defineNative } from './define.js';

defineNative('ToStorage', (call) => {
  const x = call.input('x');
  const [handle, storage] = [call.handle(x), call.attr<Storage>('storage')];
  if (x.dtype !== 'float32') throw new TypeError(`ToStorage: x: expected float32, got ${x.dtype}`);
  if (call.backend.native.info(handle).storage === storage) return call.alias(x);
  return call.output(call.ops.cast(handle, storage), x.shape, x.dtype);
});
