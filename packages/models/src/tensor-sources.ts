/**
 * A model's weights as sources of bytes for the file writers of `@equipoise/weights`.
 */
import { checkRange, type TensorSource } from '@equipoise/weights';
import type { NamedTensor } from './state-dict.js';

/**
 * Wraps tensors so that they can be read in pieces. The device is read once per tensor: the last one stays in
 * memory until another is asked for, since writers go through a tensor from its start to its end.
 *
 * @param origin names the model in errors
 */
export function tensorSources(tensors: readonly NamedTensor[], origin: string): TensorSource[] {
  let latest: { tensor: NamedTensor; bytes: Promise<Uint8Array<ArrayBuffer>> } | null = null;
  const bytesOf = (tensor: NamedTensor): Promise<Uint8Array<ArrayBuffer>> => {
    if (latest?.tensor !== tensor) latest = { tensor, bytes: tensor.read().then(toBytes) };
    return latest.bytes;
  };
  return tensors.map((tensor) => {
    const source: TensorSource = {
      name: tensor.name,
      dtype: 'F32',
      shape: tensor.shape,
      byteLength: 4 * tensor.shape.reduce((product, side) => product * side, 1),
      origin,
      read: async () => (await bytesOf(tensor)).slice(),
      readInto: async (target, offset = 0) => {
        checkRange(source, target, offset);
        target.set((await bytesOf(tensor)).subarray(offset, offset + target.byteLength));
      },
    };
    return source;
  });
}

function toBytes(values: Float32Array): Uint8Array<ArrayBuffer> {
  return new Uint8Array(values.buffer as ArrayBuffer, values.byteOffset, values.byteLength);
}
