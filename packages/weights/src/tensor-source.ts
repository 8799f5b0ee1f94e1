/** Tensors that have not been read yet: the seam between files and everything that uses weights. */
import { EquipoiseError, invalid } from '@equipoise/core';
import { byteLengthOf, checkDType, type DType } from './dtypes.js';

/**
 * A named tensor that can be read when it is needed, whole or in pieces, in C order and little-endian.
 *
 * Nothing is kept: two reads read twice. `readInto` lets the caller own the only copy, be it a device's
 * staging buffer or a typed array.
 */
export interface TensorSource {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly byteLength: number;
  /** Where it comes from, for errors: a file name, or what made it. */
  readonly origin: string;
  /** Reads everything into a new buffer of exactly `byteLength` bytes. */
  read(): Promise<Uint8Array<ArrayBuffer>>;
  /** Fills `target` with the bytes from `offset` on; offset + target.byteLength must not pass the end. */
  readInto(target: Uint8Array, offset?: number): Promise<void>;
}

/** Checks the range of a {@link TensorSource.readInto}. */
export function checkRange(source: TensorSource, target: Uint8Array, offset: number): void {
  if (!Number.isInteger(offset) || offset < 0 || offset + target.byteLength > source.byteLength) {
    throw invalid(
      `${source.name}: range`,
      `bytes within 0 … ${source.byteLength}`,
      `${offset} + ${target.byteLength}`,
    );
  }
}

type Values =
  | Uint8Array
  | Int8Array
  | Uint16Array
  | Int16Array
  | Uint32Array
  | Int32Array
  | Float32Array
  | Float64Array;

/** A tensor held in memory. The values are not copied: do not change them while the source is in use. */
export function memorySource(
  name: string,
  dtype: DType,
  shape: readonly number[],
  values: Values | BigInt64Array,
  origin = 'memory',
): TensorSource {
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  const byteLength = byteLengthOf(name, checkDType(name, dtype), checkShape(name, shape));
  if (bytes.byteLength !== byteLength) {
    throw invalid(
      `${name}: values`,
      `${byteLength} bytes for ${dtype} [${shape.join(', ')}]`,
      bytes.byteLength,
    );
  }
  const source: TensorSource = {
    name,
    dtype,
    shape: Object.freeze([...shape]),
    byteLength,
    origin,
    read: async () => new Uint8Array(bytes),
    readInto: async (target, offset = 0) => {
      checkRange(source, target, offset);
      target.set(bytes.subarray(offset, offset + target.byteLength));
    },
  };
  return source;
}

/** float32 values as a source. */
export function float32Source(
  name: string,
  shape: readonly number[],
  values: Float32Array,
  origin?: string,
): TensorSource {
  return memorySource(name, 'F32', shape, values, origin);
}

/** The same tensor under another name, and optionally with another shape of equal size. */
export function renamed(
  source: TensorSource,
  name: string,
  shape: readonly number[] = source.shape,
): TensorSource {
  const byteLength = byteLengthOf(name, source.dtype, checkShape(name, shape));
  if (byteLength !== source.byteLength)
    throw invalid(`${name}: shape`, `${source.byteLength} bytes in all`, shape);
  return {
    name,
    dtype: source.dtype,
    shape,
    byteLength,
    origin: source.origin,
    read: () => source.read(),
    readInto: (target, offset) => source.readInto(target, offset),
  };
}

function checkShape(name: string, shape: readonly number[]): readonly number[] {
  for (const size of shape) {
    if (!Number.isSafeInteger(size) || size < 0)
      throw invalid(`${name}: shape`, 'non-negative integers', shape);
  }
  return shape;
}

/** `F16 [2, 3]` */
export function describeTensor(source: Pick<TensorSource, 'dtype' | 'shape'>): string {
  return `${source.dtype} [${source.shape.join(', ')}]`;
}

/** Whether two shapes are equal. */
export function sameShape(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((size, i) => size === b[i]);
}

/** The error for a tensor whose file ended or changed under the reader. */
export function shortRead(source: TensorSource, got: number, wanted: number): EquipoiseError {
  return new EquipoiseError(
    'corrupt',
    `${source.origin}: tensor ${JSON.stringify(source.name)}: expected ${wanted} bytes, got ${got}; ` +
      'the file was cut short while it was read',
  );
}
