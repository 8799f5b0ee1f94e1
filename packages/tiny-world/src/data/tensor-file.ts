/** Small float32 tensor files held in memory: checkpoints of training, weights of the judges. */
import { EquipoiseError, invalid } from '@equipoise/core';
import {
  castSource,
  type FloatType,
  float32Source,
  openSafetensors,
  readFloat32,
  sameShape,
  writeSafetensors,
} from '@equipoise/weights';
import type { HostTensor } from '../train/trained-weights.js';

export interface TensorFile {
  readonly metadata: Readonly<Record<string, string>>;
  readonly tensors: ReadonlyMap<string, HostTensor>;
  /** The values of a tensor; throws when it is missing or has another shape. */
  take(name: string, shape: readonly number[]): Float32Array;
}

/** Writes the tensors, atomically, in float32 or rounded to a two-byte type. */
export async function writeTensorFile(
  path: string,
  tensors: readonly HostTensor[],
  metadata: Readonly<Record<string, string>> = { format: 'pt' },
  dtype: FloatType = 'F32',
): Promise<number> {
  const sources = tensors.map(({ name, shape, values }) =>
    castSource(float32Source(name, shape, values), dtype),
  );
  return writeSafetensors(path, sources, { metadata });
}

/** Reads a whole file, widened to float32. */
export async function readTensorFile(path: string): Promise<TensorFile> {
  const file = await openSafetensors(path);
  try {
    const tensors = new Map<string, HostTensor>();
    for (const [name, source] of file.tensors) {
      tensors.set(name, { name, shape: source.shape, values: await readFloat32(source) });
    }
    const take = (name: string, shape: readonly number[]): Float32Array => {
      const tensor = tensors.get(name);
      if (tensor === undefined)
        throw new EquipoiseError('missing', `${path}: no tensor ${JSON.stringify(name)}`);
      if (!sameShape(tensor.shape, shape))
        throw invalid(`${path}: ${name}`, `shape [${shape.join(', ')}]`, tensor.shape);
      return tensor.values;
    };
    return { metadata: Object.fromEntries(file.metadata), tensors, take };
  } finally {
    await file.close();
  }
}
