/** A weights file in memory as the models' loaders want it. */
import type { StateDict } from '@equipoise/models';
import { readTensorFile } from './tensor-file.js';

/** The file's tensors, widened to float32, and its metadata. */
export async function stateFromFile(
  path: string,
): Promise<{ readonly state: StateDict; readonly metadata: Readonly<Record<string, string>> }> {
  const file = await readTensorFile(path);
  const state: StateDict = {
    has: (name) => file.tensors.has(name),
    take: (name, shape) => {
      const values = file.take(name, shape);
      return {
        dtype: 'F32',
        read: () => new Uint8Array(values.buffer, values.byteOffset, values.byteLength),
      };
    },
  };
  return { state, metadata: file.metadata };
}
