/** Number types of `equipoise convert`. */
import { invalid, prose } from '@equipoise/core';
import { castSource, type FloatType, type TensorSource } from '@equipoise/weights';

export const DTYPES = ['f32', 'f16', 'bf16'] as const;
export type DtypeName = (typeof DTYPES)[number];

export function floatType(name: DtypeName | undefined): FloatType | undefined {
  return name?.toUpperCase() as FloatType | undefined;
}

/** Bits of a high byte that are all set in NaN and infinity, and in no other number. */
const EXPONENT: Readonly<Record<string, number>> = { F16: 0x7c, BF16: 0x7f };

/** Numbers with a fraction that are not converted. */
const OTHER_FLOATS = /^F(4|6|8|64)/;

/**
 * The tensor in another type, converted while it is read.
 *
 * @throws EquipoiseError `unsupported` for floating-point numbers of a type that is not converted; (when read) EquipoiseError `numeric` for a number that leaves the type's range: a model must not be saved with
 * infinities that were not there
 */
export function converted(source: TensorSource, dtype: FloatType | undefined): TensorSource {
  if (dtype !== undefined && OTHER_FLOATS.test(source.dtype)) {
    const name = `${source.origin}: tensor ${JSON.stringify(source.name)}`;
    throw invalid(name, 'F32, F16 or BF16 where --dtype is given', prose(source.dtype), {
      code: 'unsupported',
      hints: ['Without --dtype it is copied as it is.'],
    });
  }
  const cast = dtype === undefined ? source : castSource(source, dtype);
  if (cast === source || cast.dtype === 'F32') return cast;
  const check = (bytes: Uint8Array): void => {
    const mask = EXPONENT[cast.dtype] as number;
    for (let i = 1; i < bytes.length; i += 2) {
      // bfloat16's exponent has one more bit, the top one of the low byte.
      if (
        ((bytes[i] as number) & mask) !== mask ||
        (cast.dtype === 'BF16' && ((bytes[i - 1] as number) & 0x80) === 0)
      )
        continue;
      throw invalid(
        `${source.origin}: tensor ${JSON.stringify(source.name)}`,
        `numbers that ${cast.dtype} can hold`,
        prose('NaN, infinity or one too large'),
        {
          code: 'numeric',
          hints:
            cast.dtype === 'F16'
              ? ['bf16 has the range of f32.', 'equipoise inspect --values finds NaN and infinities.']
              : ['equipoise inspect --values finds NaN and infinities.'],
        },
      );
    }
  };
  return {
    ...cast,
    readInto: async (target, offset) => {
      await cast.readInto(target, offset);
      check(target);
    },
    read: async () => {
      const bytes = await cast.read();
      check(bytes);
      return bytes;
    },
  };
}

const UNITS: Readonly<Record<string, number>> = { KB: 1e3, MB: 1e6, GB: 1e9 };

/** `5GB` as bytes; units are decimal, as in diffusers. */
export function parseSize(text: string, name: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([KMG]B)$/i.exec(text);
  const bytes = match === null ? 0 : Number(match[1]) * (UNITS[(match[2] as string).toUpperCase()] as number);
  if (!(bytes >= 1)) throw invalid(name, 'a size such as 500MB or 5GB', text);
  return Math.floor(bytes);
}
