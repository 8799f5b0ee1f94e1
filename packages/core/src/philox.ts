/**
 * Philox 4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC 2011):
 * counter-based random numbers, so that a sample depends on (seed, stream, index) alone.
 *
 * This file is the specification; native kernels produce the same numbers. For a seed and a stream, both
 * unsigned 64-bit integers, and an element index i (unsigned, below 2^53):
 *
 * ```
 * key      = (seed mod 2^32, floor(seed / 2^32))
 * block    = floor(i / 4)
 * counter  = (block mod 2^32, floor(block / 2^32), stream mod 2^32, floor(stream / 2^32))
 * w[0..3]  = philox4x32_10(counter, key)
 *
 * u32(i)     = w[i mod 4]
 * uniform(i) = floor(w[i mod 4] / 2^8) * 2^-24                      in [0, 1), exact in float32
 * normal(i)  : p = 2 * floor((i mod 4) / 2)                         pairs (w0, w1) and (w2, w3)
 *              a = (floor(w[p] / 2^8) + 1) * 2^-24                  in (0, 1], exact in float32
 *              b = floor(w[p + 1] / 2^8) * 2^-24                    in [0, 1), exact in float32
 *              r = sqrt(-2 ln a)
 *              i even: r cos(2 pi b);  i odd: r sin(2 pi b)
 * ```
 *
 * `u32` and `uniform` are equal bit for bit everywhere. `normal` is evaluated here in float64 and rounded
 * once to float32; a kernel that does the same agrees bit for bit up to its libm's last float64 digit, and
 * one that works in float32 throughout agrees within 2e-6 (absolute). Element i of a tensor drawn with
 * `offset` o is element o + i of the stream. Normals span +-5.77.
 *
 * One round, with M0 = 0xD2511F53 and M1 = 0xCD9E8D57 and hi/lo the halves of the 64-bit product:
 * `(c0, c1, c2, c3) <- (hi(M1 c2) ^ c1 ^ k0, lo(M1 c2), hi(M0 c0) ^ c3 ^ k1, lo(M0 c0))`; the key grows by
 * (0x9E3779B9, 0xBB67AE85) between rounds; ten rounds.
 */
import { createHash } from 'node:crypto';
import { invalid } from './errors.js';

const M0 = 0xd2511f53;
const M1 = 0xcd9e8d57;
const W0 = 0x9e3779b9;
const W1 = 0xbb67ae85;
const TWO_32 = 0x1_0000_0000;
const TWO_MINUS_24 = 2 ** -24;

/** High 32 bits of the unsigned 64-bit product of two 32-bit integers, as a signed 32-bit integer. */
function mulHigh(a: number, b: number): number {
  const aLow = a & 0xffff;
  const aHigh = a >>> 16;
  const bLow = b & 0xffff;
  const bHigh = b >>> 16;
  const low = Math.imul(aLow, bLow) >>> 0;
  const mid1 = (Math.imul(aHigh, bLow) >>> 0) + (low >>> 16);
  const mid2 = (Math.imul(aLow, bHigh) >>> 0) + (mid1 & 0xffff);
  return (
    ((Math.imul(aHigh, bHigh) >>> 0) + Math.floor(mid1 / 0x10000) + (mid2 - (mid2 & 0xffff)) / 0x10000) | 0
  );
}

/**
 * The ten-round bijection.
 *
 * @param counter four 32-bit words
 * @param key two 32-bit words
 * @param out receives four unsigned 32-bit words
 */
export function philox4x32(
  counter: ArrayLike<number>,
  key: ArrayLike<number>,
  out: Uint32Array = new Uint32Array(4),
): Uint32Array {
  let c0 = (counter[0] as number) | 0;
  let c1 = (counter[1] as number) | 0;
  let c2 = (counter[2] as number) | 0;
  let c3 = (counter[3] as number) | 0;
  let k0 = (key[0] as number) | 0;
  let k1 = (key[1] as number) | 0;
  for (let round = 0; round < 10; round++) {
    const high0 = mulHigh(M0, c0);
    const low0 = Math.imul(M0, c0);
    const high1 = mulHigh(M1, c2);
    const low1 = Math.imul(M1, c2);
    c0 = high1 ^ c1 ^ k0;
    c1 = low1;
    c2 = high0 ^ c3 ^ k1;
    c3 = low0;
    k0 = (k0 + W0) | 0;
    k1 = (k1 + W1) | 0;
  }
  out[0] = c0;
  out[1] = c1;
  out[2] = c2;
  out[3] = c3;
  return out;
}

/** Splits an unsigned 64-bit integer, given as a bigint or a safe integer, into [low, high] 32-bit words. */
export function splitU64(name: string, value: number | bigint): [number, number] {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) {
    return [value % TWO_32, Math.floor(value / TWO_32)];
  }
  if (typeof value === 'bigint' && value >= 0n && value < 1n << 64n) {
    return [Number(value & 0xffffffffn), Number(value >> 32n)];
  }
  throw invalid(name, 'an integer from 0 to 2^64 - 1 (a bigint above 2^53)', value);
}

/**
 * A stream number for a named purpose: the first eight bytes, little-endian, of the SHA-256 of the parts
 * joined by NUL. `streamId('latents', promptIndex, candidate)` never meets `streamId('noise', …)`.
 */
export function streamId(...parts: readonly (string | number | bigint)[]): bigint {
  return createHash('sha256').update(parts.map(String).join('\0')).digest().readBigUInt64LE(0);
}

/** Random access to one (seed, stream); see the top of this file for the exact mapping. */
export class PhiloxStream {
  readonly #key: readonly [number, number];
  readonly #counter = new Uint32Array(4);
  readonly #words = new Uint32Array(4);
  #block = Number.NaN;

  /** Seed and stream are unsigned 64-bit integers: safe integers or bigints. */
  constructor(seed: number | bigint, stream: number | bigint = 0) {
    this.#key = splitU64('seed', seed);
    this.#counter.set(splitU64('stream', stream), 2);
  }

  /** Unsigned 32-bit word `index`. */
  u32(index: number): number {
    return this.#load(index)[index % 4] as number;
  }

  /** Uniform in [0, 1), 24 bits. */
  uniform(index: number): number {
    return (this.u32(index) >>> 8) * TWO_MINUS_24;
  }

  /** Standard normal, rounded to float32. */
  normal(index: number): number {
    const words = this.#load(index);
    const lane = index % 4;
    const pair = lane & 2;
    const radius = Math.sqrt(-2 * Math.log(((words[pair] as number) >>> 8) * TWO_MINUS_24 + TWO_MINUS_24));
    const angle = 2 * Math.PI * (((words[pair + 1] as number) >>> 8) * TWO_MINUS_24);
    return Math.fround(radius * ((lane & 1) === 0 ? Math.cos(angle) : Math.sin(angle)));
  }

  /** Writes uniforms `offset`, `offset + 1`, … into `out` and returns it. */
  fillUniform(out: Float32Array, offset = 0): Float32Array {
    for (let i = 0; i < out.length; i++) out[i] = this.uniform(offset + i);
    return out;
  }

  /** Writes standard normals `offset`, `offset + 1`, … into `out` and returns it. */
  fillNormal(out: Float32Array, offset = 0): Float32Array {
    for (let i = 0; i < out.length; i++) out[i] = this.normal(offset + i);
    return out;
  }

  #load(index: number): Uint32Array {
    const block = Math.floor(index / 4);
    if (block === this.#block) return this.#words;
    if (!Number.isSafeInteger(index) || index < 0)
      throw invalid('index', 'a safe integer of at least 0', index);
    this.#counter[0] = block % TWO_32;
    this.#counter[1] = Math.floor(block / TWO_32);
    philox4x32(this.#counter, this.#key, this.#words);
    this.#block = block;
    return this.#words;
  }
}

/** A Philox stream read in order, with the draws that host-side sampling needs. */
export class PhiloxSequence {
  readonly #stream: PhiloxStream;
  /** Index of the next word; save and restore it to resume. */
  position: number;

  constructor(seed: number | bigint, stream: number | bigint = 0, position = 0) {
    this.#stream = new PhiloxStream(seed, stream);
    this.position = position;
  }

  u32(): number {
    return this.#stream.u32(this.position++);
  }

  /** Uniform in [0, 1), 24 bits. */
  uniform(): number {
    return (this.u32() >>> 8) * TWO_MINUS_24;
  }

  /** Standard normal; each draw uses one stream position. */
  normal(): number {
    return this.#stream.normal(this.position++);
  }

  /** Integer in [0, n), exactly uniform (multiply-shift with rejection: Lemire, 2019). n from 1 to 2^32. */
  int(n: number): number {
    if (!Number.isInteger(n) || n < 1 || n > TWO_32) throw invalid('n', 'an integer from 1 to 2^32', n);
    const threshold = BigInt((TWO_32 - n) % n);
    const range = BigInt(n);
    for (;;) {
      const product = BigInt(this.u32()) * range;
      if ((product & 0xffffffffn) >= threshold) return Number(product >> 32n);
    }
  }

  /** One element of a non-empty list. */
  pick<T>(items: readonly T[]): T {
    if (items.length === 0) throw invalid('items', 'a non-empty list', items);
    return items[this.int(items.length)] as T;
  }

  /** Shuffles in place (Fisher-Yates from the front) and returns the list. */
  shuffle<T>(items: T[]): T[] {
    for (let i = 0; i + 1 < items.length; i++) {
      const j = i + this.int(items.length - i);
      [items[i], items[j]] = [items[j] as T, items[i] as T];
    }
    return items;
  }
}
