/**
 * Conversions between float16, bfloat16 and float32, rounding to nearest, ties to even, and reading tensors as
 * float32 without a second full copy.
 */
import { EquipoiseError } from '@equipoise/core';
import { bitsOf, byteLengthOf, type DType } from './dtypes.js';
import { checkRange, describeTensor, type TensorSource } from './tensor-source.js';

const PIECE_BYTES = 4 << 20;

/** The types {@link readFloat32} and {@link castSource} convert between. */
export type FloatType = 'F16' | 'BF16' | 'F32';

let halfTable: Uint32Array | undefined;

/** float32 bits of every float16. */
function float16Table(): Uint32Array {
  if (halfTable !== undefined) return halfTable;
  const table = new Uint32Array(0x10000);
  for (let half = 0; half < 0x10000; half++) {
    const sign = (half & 0x8000) << 16;
    const exponent = (half >>> 10) & 0x1f;
    const fraction = half & 0x3ff;
    let bits: number;
    if (exponent === 0x1f) bits = 0x7f800000 | (fraction << 13);
    else if (exponent > 0) bits = ((exponent + 112) << 23) | (fraction << 13);
    else if (fraction === 0) bits = 0;
    else {
      // Subnormal: fraction * 2^-24; normalise it.
      const shift = Math.clz32(fraction) - 21;
      bits = ((113 - shift) << 23) | (((fraction << shift) & 0x3ff) << 13);
    }
    table[half] = sign | bits;
  }
  halfTable = table;
  return table;
}

/** Widens float16 (as bits) to float32; exact. */
export function float16ToFloat32(
  from: Uint16Array,
  to: Float32Array = new Float32Array(from.length),
): Float32Array {
  const table = float16Table();
  const bits = new Uint32Array(to.buffer, to.byteOffset, to.length);
  for (let i = 0; i < from.length; i++) bits[i] = table[from[i] as number] as number;
  return to;
}

/** Widens bfloat16 (as bits) to float32; exact. */
export function bfloat16ToFloat32(
  from: Uint16Array,
  to: Float32Array = new Float32Array(from.length),
): Float32Array {
  const bits = new Uint32Array(to.buffer, to.byteOffset, to.length);
  for (let i = 0; i < from.length; i++) bits[i] = (from[i] as number) << 16;
  return to;
}

/** Rounds float32 to bfloat16 bits. NaN stays NaN (made quiet); too large a value becomes infinity. */
export function float32ToBfloat16(
  from: Float32Array,
  to: Uint16Array = new Uint16Array(from.length),
): Uint16Array {
  const bits = new Uint32Array(from.buffer, from.byteOffset, from.length);
  for (let i = 0; i < bits.length; i++) {
    const x = bits[i] as number;
    const nan = (x & 0x7fffffff) > 0x7f800000;
    to[i] = nan ? (x >>> 16) | 0x40 : (x + 0x7fff + ((x >>> 16) & 1)) >>> 16;
  }
  return to;
}

const roundingScratch = new Float32Array(1);
const roundingBits = new Uint32Array(roundingScratch.buffer);

/** Rounds float32 to float16 bits. NaN stays NaN; from 65520 on a value becomes infinity. */
export function float32ToFloat16(
  from: Float32Array,
  to: Uint16Array = new Uint16Array(from.length),
): Uint16Array {
  const bits = new Uint32Array(from.buffer, from.byteOffset, from.length);
  for (let i = 0; i < bits.length; i++) {
    const x = bits[i] as number;
    const sign = (x >>> 16) & 0x8000;
    const magnitude = x & 0x7fffffff;
    if (magnitude >= 0x38800000 && magnitude < 0x47800000) {
      // Normal in float16, or just above: a carry out of the exponent gives infinity, as it should.
      to[i] = sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >>> 13) & 1)) >>> 13);
    } else if (magnitude < 0x38800000) {
      // Subnormal in float16. Between 0.5 and 1 float32 counts in steps of 2^-24, as float16 does down here:
      // adding 0.5 makes the float unit round.
      roundingScratch[0] = Math.abs(from[i] as number) + 0.5;
      to[i] = sign | ((roundingBits[0] as number) - 0x3f000000);
    } else {
      to[i] = sign | (magnitude > 0x7f800000 ? 0x7e00 | ((magnitude >>> 13) & 0x3ff) : 0x7c00);
    }
  }
  return to;
}

/** Whether {@link readFloat32} can read a type. */
export function isFloatType(dtype: DType): dtype is FloatType {
  return dtype === 'F32' || dtype === 'F16' || dtype === 'BF16';
}

/**
 * Reads a tensor as float32. F32 is read straight into the result; F16 and BF16 pass through a small buffer;
 * F64 and integer types of up to 32 bits are converted likewise (F64 is rounded).
 *
 * @param target receives the values, exactly as many as the tensor has; allocated when absent
 * @throws EquipoiseError `unsupported` for other types
 */
export async function readFloat32(source: TensorSource, target?: Float32Array): Promise<Float32Array> {
  const count = (source.byteLength * 8) / bitsOf(source.dtype);
  const out = target ?? new Float32Array(count);
  if (out.length !== count) {
    throw new EquipoiseError(
      'invalid',
      `${source.name}: expected room for ${count} values, got ${out.length}`,
    );
  }
  if (source.dtype === 'F32') {
    await source.readInto(new Uint8Array(out.buffer, out.byteOffset, out.byteLength));
    return out;
  }
  const widen = wideners[source.dtype];
  if (widen === undefined) throw unsupported(source, 'float32');
  const width = bitsOf(source.dtype) / 8;
  const piece = new Uint8Array(Math.min(PIECE_BYTES, source.byteLength));
  for (let offset = 0; offset < source.byteLength; offset += piece.byteLength) {
    const part = piece.subarray(0, Math.min(piece.byteLength, source.byteLength - offset));
    await source.readInto(part, offset);
    const first = offset / width;
    widen(part, out.subarray(first, first + part.byteLength / width));
  }
  return out;
}

type View<T> = new (buffer: ArrayBufferLike, byteOffset: number, length: number) => T;

function viewOf<T>(type: View<T>, bytes: Uint8Array, width: number): T {
  return new type(bytes.buffer, bytes.byteOffset, bytes.byteLength / width);
}

const wideners: Partial<Record<DType, (bytes: Uint8Array, out: Float32Array) => void>> = {
  F16: (bytes, out) => float16ToFloat32(viewOf(Uint16Array, bytes, 2), out),
  BF16: (bytes, out) => bfloat16ToFloat32(viewOf(Uint16Array, bytes, 2), out),
  F64: (bytes, out) => out.set(viewOf(Float64Array, bytes, 8)),
  I32: (bytes, out) => out.set(viewOf(Int32Array, bytes, 4)),
  U32: (bytes, out) => out.set(viewOf(Uint32Array, bytes, 4)),
  I16: (bytes, out) => out.set(viewOf(Int16Array, bytes, 2)),
  U16: (bytes, out) => out.set(viewOf(Uint16Array, bytes, 2)),
  I8: (bytes, out) => out.set(viewOf(Int8Array, bytes, 1)),
  U8: (bytes, out) => out.set(bytes),
  BOOL: (bytes, out) => out.set(bytes),
};

/** The bytes of float32 values in another float type. */
export function encodeFloats(values: Float32Array, dtype: FloatType): Uint8Array {
  if (dtype === 'F32') return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  const narrow = dtype === 'F16' ? float32ToFloat16(values) : float32ToBfloat16(values);
  return new Uint8Array(narrow.buffer);
}

/**
 * A source that converts while it is read, piece by piece: what `equipoise convert` writes. A source that
 * already has the type, or whose type is not F16, BF16 or F32 (position ids and the like), is returned as it is.
 */
export function castSource(source: TensorSource, dtype: FloatType): TensorSource {
  if (source.dtype === dtype || !isFloatType(source.dtype)) return source;
  const from = bitsOf(source.dtype) / 8;
  const to = bitsOf(dtype) / 8;
  const widen = source.dtype === 'F32' ? undefined : wideners[source.dtype];
  const byteLength = byteLengthOf(source.name, dtype, source.shape);
  const readInto = async (target: Uint8Array, offset = 0): Promise<void> => {
    checkRange(cast, target, offset);
    if (offset % to !== 0 || target.byteLength % to !== 0) {
      throw new EquipoiseError('invalid', `${source.name}: expected a range of whole ${dtype} elements`);
    }
    const step = PIECE_BYTES / 4;
    for (let done = 0; done < target.byteLength; done += step * to) {
      const count = Math.min(step, (target.byteLength - done) / to);
      const raw = new Uint8Array(count * from);
      await source.readInto(raw, ((offset + done) / to) * from);
      const values = widen === undefined ? new Float32Array(raw.buffer) : new Float32Array(count);
      widen?.(raw, values);
      target.set(encodeFloats(values, dtype), done);
    }
  };
  const cast: TensorSource = {
    name: source.name,
    dtype,
    shape: source.shape,
    byteLength,
    origin: source.origin,
    readInto,
    read: async () => {
      const bytes = new Uint8Array(byteLength);
      await readInto(bytes);
      return bytes;
    },
  };
  return cast;
}

function unsupported(source: TensorSource, wanted: string): EquipoiseError {
  return new EquipoiseError(
    'unsupported',
    `${source.origin}: tensor ${JSON.stringify(source.name)}: expected a type that converts to ${wanted}, got ${describeTensor(source)}`,
  );
}
