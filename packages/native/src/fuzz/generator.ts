/** Makes valid arguments: tensors whose device handles, shapes and storages the mutations know. */
import type { Handle, NativeAddon, Storage } from '../binding.js';
import { FuzzRandom } from './random.js';

export interface KnownTensor {
  readonly shape: readonly number[];
  readonly storage: Storage;
}

const SPECIALS = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, -0, 1e-42, 3e38, -3e38];
const EXTREMES = [-(2 ** 31), 2 ** 31 - 1, -1, 2 ** 24, 1000];

/** Elements of a shape. */
export function sizeOf(shape: readonly number[]): number {
  return shape.reduce((size, side) => size * side, 1);
}

/** Releases a handle that the call itself may have released already. */
export function discard(native: NativeAddon, handle: Handle): void {
  try {
    native.release(handle);
  } catch (error) {
    if (!/disposed/.test((error as Error).message)) throw error;
  }
}

/** What one call is made with: random choices, and tensors that are released when it is over. */
export class Generator extends FuzzRandom {
  readonly known = new Map<unknown, KnownTensor>();

  constructor(
    readonly native: NativeAddon,
    seed: number,
    index: number,
  ) {
    super(seed, index);
  }

  /** A small size; now and then 0, and past the widths of vectors and tiles. */
  dim(smallest = 0): number {
    const roll = this.unit();
    if (roll < 0.05) return Math.max(smallest, 0);
    if (roll < 0.85) return this.int(Math.max(1, smallest), 9);
    return this.int(Math.max(10, smallest), 70);
  }

  shape(rank: number, smallest = 0): number[] {
    return Array.from({ length: rank }, () => this.dim(smallest));
  }

  /** Any shape of rank 0 to 5 that stays small. */
  anyShape(): number[] {
    const rank = this.int(0, 5);
    return rank > 3 ? Array.from({ length: rank }, () => this.int(0, 4)) : this.shape(rank);
  }

  /**
   * Standard-normal-like values; one tensor in eight holds a NaN, an infinity or the like.
   *
   * @param frozen for floats alone; one in five by default
   */
  tensor(shape: readonly number[], storage: Storage = this.pick(['f32', 'bf16']), frozen?: boolean): Handle {
    const size = sizeOf(shape);
    if (storage === 'i32') return this.integers(shape, -5, 5);
    if (storage === 'bool')
      return this.keep(
        this.native.upload(
          Uint8Array.from({ length: size }, () => this.int(0, 1)),
          'bool',
          shape,
          'bool',
          false,
        ),
        shape,
        storage,
      );
    const values = Float32Array.from({ length: size }, () => this.unit() * 4 - 2);
    if (size > 0 && this.chance(0.125)) values[this.int(0, size - 1)] = this.pick(SPECIALS);
    const fixed = frozen ?? this.chance(0.2);
    return this.keep(this.native.upload(values, 'f32', shape, storage, fixed), shape, storage);
  }

  /** A trainable parameter, or its gradient or moments: stored as f32 and never frozen. */
  variable(shape: readonly number[]): Handle {
    const size = sizeOf(shape);
    const values = Float32Array.from({ length: size }, () => this.unit() * 2 - 1);
    return this.keep(this.native.upload(values, 'f32', shape, 'f32', false), shape, 'f32');
  }

  f32(shape: readonly number[]): Handle {
    return this.tensor(shape, 'f32');
  }

  /** int32 values from low to high; one tensor in eight holds one far outside, as bad indices do. */
  integers(shape: readonly number[], low: number, high: number): Handle {
    const size = sizeOf(shape);
    const values = Int32Array.from({ length: size }, () => this.int(low, high));
    if (size > 0 && this.chance(0.125)) values[this.int(0, size - 1)] = this.pick(EXTREMES);
    return this.keep(this.native.upload(values, 'i32', shape, 'i32', false), shape, 'i32');
  }

  /** Any storage. */
  any(shape: readonly number[]): Handle {
    return this.tensor(shape, this.pick(['f32', 'f32', 'bf16', 'i32', 'bool']));
  }

  maybe(make: () => Handle): Handle | null {
    return this.bool() ? make() : null;
  }

  keep(handle: Handle, shape: readonly number[], storage: Storage): Handle {
    this.known.set(handle, { shape, storage });
    return handle;
  }

  /** Releases what is left. Results that nobody releases are left to the garbage collector on purpose. */
  releaseAll(): void {
    for (const handle of this.known.keys()) discard(this.native, handle as Handle);
    this.known.clear();
  }
}
