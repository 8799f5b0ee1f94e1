/**
 * What a model needs from a checkpoint. `@equipoise/weights` provides it for safetensors files and folders;
 * anything with these methods will do.
 */

/** Number formats in which checkpoints hold weights. */
export type WeightDtype = 'F32' | 'F16' | 'BF16';

/** One tensor of a checkpoint: little-endian numbers in row-major order. */
export interface StateEntry {
  readonly dtype: WeightDtype;
  /** The tensor's bytes, possibly a view of a mapped file; valid until the state dict is closed. */
  read(): Uint8Array;
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
}

/** One tensor of a model, in torch's layout, ready to be written. */
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
