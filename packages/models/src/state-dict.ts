/**
 * What a model needs from a checkpoint: a subset of `StateDict` of `@equipoise/weights`, so that tensors from
 * anywhere will do.
 */

/** Number formats in which checkpoints hold weights. */
export type WeightDtype = 'F32' | 'F16' | 'BF16';

/** One tensor of a checkpoint: little-endian numbers in row-major order. */
export interface StateEntry {
  /** A {@link WeightDtype}; other formats are refused by name. */
  readonly dtype: string;
  read(): Promise<Uint8Array> | Uint8Array;
  /** Where this and the length exist, tensors are read into memory that is used again for later ones. */
  readInto?(target: Uint8Array): Promise<void>;
  readonly byteLength?: number;
}

/** Named tensors, checked for shape as they are taken. */
export interface StateDict {
  /** Whether a tensor of this name exists. */
  has(name: string): boolean;
  /**
   * The tensor called `name`.
   *
   * @throws EquipoiseError when it is absent or has another shape
   */
  take(name: string, shape: readonly number[]): StateEntry;
  /**
   * Compares all names and shapes with what a model expects; where this exists it runs first, so that one
   * error lists everything that does not fit.
   */
  require?(manifest: ReadonlyMap<string, readonly number[]>, options: { ignore: readonly RegExp[] }): void;
}

/** One tensor of a model, in torch's layout. */
export interface NamedTensor {
  readonly name: string;
  readonly shape: readonly number[];
  /** Reads the numbers back from the device. */
  read(): Promise<Float32Array>;
}

/** A key of the checkpoint and the shape it must have. */
export interface ManifestEntry {
  readonly name: string;
  readonly shape: readonly number[];
}
