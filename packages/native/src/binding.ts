/** The native addon's surface, one to one. Nothing here interprets or converts. */
import type { ActivationOps } from './ops/activation.js';
import type { AdapterOps } from './ops/adapter.js';
import type { AttentionOps } from './ops/attention.js';
import type { ConvOps } from './ops/conv.js';
import type { DiffusionOps } from './ops/diffusion.js';
import type { ElementwiseOps } from './ops/elementwise.js';
import type { GemmOps } from './ops/gemm.js';
import type { ImageOps } from './ops/image.js';
import type { IndexOps } from './ops/index-ops.js';
import type { LossOps } from './ops/loss.js';
import type { MovementOps } from './ops/movement.js';
import type { NormOps } from './ops/norm.js';
import type { ReduceOps } from './ops/reduce.js';
import type { TrainingOps } from './ops/training.js';

declare const handleBrand: unique symbol;
/** A tensor in device memory. Opaque, type-tagged; freed by {@link NativeAddon.release} or the garbage collector. */
export interface Handle {
  readonly [handleBrand]: never;
}

/** How a tensor lies in device memory. */
export type Storage = 'f32' | 'bf16' | 'i32' | 'bool';
/** How uploaded bytes are encoded; f16 is widened on the way in. */
export type SourceDType = Storage | 'f16';
export type HostArray = Float32Array | Int32Array | Uint8Array;

export interface MemoryStats {
  /** Bytes of live tensors, in block sizes. */
  inUse: number;
  /** Bytes kept for reuse. */
  cached: number;
  /** Largest `inUse` so far. */
  peak: number;
  limit: number;
  /** Live blocks. */
  blocks: number;
  allocations: number;
  cacheHits: number;
  /** Bytes that live tensors asked for; the rest of `inUse` is rounding. */
  requested: number;
  /** Free bytes that recordings keep to themselves. */
  held: number;
  /** The largest block among `cached`: far smaller, the cache is fragmented. */
  largestCached: number;
}

export interface ProfileRange {
  op: string;
  shapes: string;
  flops: number;
  bytes: number;
  startMs: number;
  endMs: number;
}

declare const recordingBrand: unique symbol;
/** Launches that were recorded once, with the memory they use. Freed by `releaseRecording` or the garbage collector. */
export interface RecordingHandle {
  readonly [recordingBrand]: never;
}

/** One of the devices an addon could open. */
export interface DeviceListing {
  /** `cuda:1` */
  device: string;
  model: string;
  usable: boolean;
  /** Why not, in one sentence. */
  reason?: string;
}

export interface DeviceDescription {
  device: string;
  model: string;
  [detail: string]: string | number | boolean;
}

/** All compute kernels; one interface per family. */
export interface NativeOps
  extends ActivationOps,
    AdapterOps,
    AttentionOps,
    ConvOps,
    DiffusionOps,
    ElementwiseOps,
    GemmOps,
    ImageOps,
    IndexOps,
    LossOps,
    MovementOps,
    NormOps,
    ReduceOps,
    TrainingOps {}

export interface NativeAddon {
  /** Copies host values to the device. `frozen` promises that they never change, so kernels may repack them. */
  upload(
    values: ArrayBufferView,
    source: SourceDType,
    shape: readonly number[],
    storage: Storage,
    frozen: boolean,
  ): Handle;
  /** {@link upload} of a convolution filter: values in torch's order [O,I,H,W] become a tensor [H,W,I,O]. */
  uploadFilter(
    values: ArrayBufferView,
    source: 'f32' | 'f16' | 'bf16',
    shape: readonly [number, number, number, number],
    storage: 'f32' | 'bf16',
    frozen: boolean,
  ): Handle;
  release(tensor: Handle): void;
  /** Promises from now on what `upload` can promise at once: the values never change, so kernels may repack them. */
  freeze(tensor: Handle): void;
  /** Another view of the same memory. */
  reshape(tensor: Handle, shape: readonly number[]): Handle;
  /** Resolves after everything queued before; bf16 is widened to Float32Array. Rejects with a pending kernel fault. */
  read(tensor: Handle): Promise<HostArray>;
  readSync(tensor: Handle): HostArray;
  info(tensor: Handle): { storage: Storage; shape: number[]; bytes: number; frozen: boolean };
  memory(): MemoryStats;
  setMemoryLimit(bytes: number): void;
  trim(keep: number): void;
  synchronize(): void;
  shutdown(): void;
  setProfiling(on: boolean): void;
  takeProfile(): ProfileRange[];
  describe(): DeviceDescription;
  /** Which of several devices of the kind to open; only before anything else is done. */
  selectDevice(index: number): void;
  /** The devices of the kind, none of them opened by asking. */
  devices(): DeviceListing[];
  /** A tensor of the same values in memory of its own. */
  copy(tensor: Handle): Handle;
  /** Overwrites the values of `to`, which must have the type and size of `from`. */
  copyInto(to: Handle, from: Handle): void;
  /** From now until `endRecording` launches are recorded instead of run; nothing can be read meanwhile. */
  beginRecording(): void;
  endRecording(): RecordingHandle;
  abandonRecording(): void;
  /** Runs a recording: results appear in the tensors that were made while it was recorded. */
  replay(recording: RecordingHandle): void;
  releaseRecording(recording: RecordingHandle): void;
  readonly ops: NativeOps;
}
