/** Element types of the safetensors format. */
import { invalid, nearest, prose } from '@equipoise/core';

/** Types in ascending rank, with their width in bits. Files store the higher rank first. */
const BITS = {
  BOOL: 8,
  F4: 4,
  F6_E2M3: 6,
  F6_E3M2: 6,
  U8: 8,
  I8: 8,
  F8_E5M2: 8,
  F8_E4M3: 8,
  F8_E8M0: 8,
  F8_E4M3FNUZ: 8,
  F8_E5M2FNUZ: 8,
  I16: 16,
  U16: 16,
  F16: 16,
  BF16: 16,
  I32: 32,
  U32: 32,
  F32: 32,
  C64: 64,
  F64: 64,
  I64: 64,
  U64: 64,
} as const;

/** Name of an element type, as safetensors headers spell it. */
export type DType = keyof typeof BITS;

/** Every element type, in ascending rank. */
export const DTYPES = Object.keys(BITS) as readonly DType[];

const RANKS: ReadonlyMap<string, number> = new Map(DTYPES.map((dtype, rank) => [dtype, rank]));

export function isDType(name: unknown): name is DType {
  return typeof name === 'string' && RANKS.has(name);
}

/** Bits of one element. */
export function bitsOf(dtype: DType): number {
  return BITS[dtype];
}

/** Order of a type among others: the writer puts higher ranks first. */
export function rankOf(dtype: DType): number {
  return RANKS.get(dtype) as number;
}

const MAX_U64 = (1n << 64n) - 1n;

/**
 * Number of elements of a shape.
 *
 * @throws EquipoiseError `corrupt` when the product, taken from left to right, leaves 64 bits, even if a later
 * size is 0
 */
export function elementsOf(name: string, shape: readonly number[]): bigint {
  let product = 1n;
  for (const size of shape) {
    product *= BigInt(size);
    if (product > MAX_U64)
      throw invalid(`${name}: shape`, 'fewer than 2^64 elements', shape, { code: 'corrupt' });
  }
  return product;
}

/**
 * Bytes of a tensor.
 *
 * @throws EquipoiseError `corrupt` when the size overflows or is not a whole number of bytes
 */
export function byteLengthOf(name: string, dtype: DType, shape: readonly number[]): number {
  const bits = elementsOf(name, shape) * BigInt(bitsOf(dtype));
  if (bits > MAX_U64) throw invalid(`${name}: shape`, 'fewer than 2^64 bits', shape, { code: 'corrupt' });
  if (bits % 8n !== 0n) {
    const actual = prose(`${bits} bits (${dtype} [${shape.join(', ')}])`);
    throw invalid(`${name}: size`, 'a whole number of bytes', actual, { code: 'corrupt' });
  }
  return Number(bits / 8n);
}

/** Checks a type name; unknown ones are refused with the nearest known one. */
export function checkDType(name: string, value: unknown): DType {
  if (isDType(value)) return value;
  const closest = typeof value === 'string' ? nearest(value, DTYPES) : undefined;
  throw invalid(
    `${name}: dtype`,
    closest === undefined ? `one of ${DTYPES.join(', ')}` : `a known type such as ${closest}`,
    value,
    {
      code: 'corrupt',
    },
  );
}
