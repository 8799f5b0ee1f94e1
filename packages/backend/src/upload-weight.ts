import * as tf from '@tensorflow/tfjs-core';
import { currentDevice } from './backend.js';
import { getPrecision, type Precision } from './engine.js';

/** Encodings of weight files (safetensors spelling). */
export type WeightDType = 'F32' | 'F16' | 'BF16';

export interface UploadOptions {
  /** Default: the process's precision. */
  storage?: Precision;
  /** `oihw`: the bytes are torch's convolution filter [out, in, h, w], the result is [h, w, in, out]. */
  layout?: 'same' | 'oihw';
}

/**
 * Uploads a frozen weight. On Equipoise's engines the bytes go to the device once, in the wanted storage, and kernels
 * may repack them; elsewhere they are widened to float32 on the host.
 *
 * @param bytes little-endian values, row-major; shape and dtype give their number
 * @param shape of the bytes
 * @returns a float32 tensor (as TensorFlow.js sees it)
 * @throws RangeError when the byte count does not match, or the shape of a filter does not have rank 4
 */
export function uploadWeight(
  bytes: Uint8Array,
  shape: number[],
  dtype: WeightDType,
  options: UploadOptions = {},
): tf.Tensor {
  const expected = tf.util.sizeFromShape(shape) * (dtype === 'F32' ? 4 : 2);
  if (bytes.byteLength !== expected) {
    throw new RangeError(
      `uploadWeight: bytes: expected ${expected} for ${dtype} [${shape}], got ${bytes.byteLength}`,
    );
  }
  const { storage = getPrecision(), layout = 'same' } = options;
  if (layout === 'oihw' && shape.length !== 4)
    throw new RangeError(`uploadWeight: shape: expected [out, in, h, w], got [${shape}]`);
  const device = currentDevice();
  if (!device) {
    return tf.tidy(() => {
      const weight = tf.tensor(widen(bytes, dtype), shape, 'float32');
      return layout === 'same' ? weight : tf.transpose(weight, [2, 3, 1, 0]);
    });
  }
  const source = dtype.toLowerCase() as Lowercase<WeightDType>;
  if (layout === 'same') {
    const handle = device.native.upload(bytes, source, shape, storage, true);
    return tf.engine().makeTensorFromTensorInfo(device.register(handle, shape, 'float32'));
  }
  const [out, input, height, width] = shape as [number, number, number, number];
  const handle = device.native.uploadFilter(bytes, source, [out, input, height, width], storage, true);
  const info = device.register(handle, [height, width, input, out], 'float32');
  return tf.engine().makeTensorFromTensorInfo(info);
}

/** Gives back the memory that uploads worked in, and what the allocator keeps for reuse: call it after loading a model. */
export function releaseUploadMemory(): void {
  currentDevice()?.native.trim(0);
}

function widen(bytes: Uint8Array, dtype: WeightDType): Float32Array {
  // Files do not align their tensors; typed arrays insist.
  const aligned = bytes.slice().buffer;
  if (dtype === 'F32') return new Float32Array(aligned);
  const half = new Uint16Array(aligned);
  const out = new Float32Array(half.length);
  if (dtype === 'BF16') {
    const bits = new Uint32Array(out.buffer);
    for (let i = 0; i < half.length; i++) bits[i] = (half[i] as number) << 16;
    return out;
  }
  for (let i = 0; i < half.length; i++) out[i] = halfToFloat(half[i] as number);
  return out;
}

/** IEEE half precision, subnormals, infinities and NaN included. */
function halfToFloat(h: number): number {
  const sign = h & 0x8000 ? -1 : 1;
  const exponent = (h >> 10) & 0x1f;
  const mantissa = h & 0x3ff;
  if (exponent === 0x1f) return mantissa ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return exponent ? sign * 2 ** (exponent - 25) * (1024 + mantissa) : sign * 2 ** -24 * mantissa;
}
