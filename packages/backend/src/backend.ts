/**
 * A TensorFlow.js backend over one native device. It owns the mapping from TensorFlow.js data ids to device
 * handles; kernels (src/kernels, src/fused) take handles, call the addon, and wrap what comes back.
 */
import type { Handle, HostArray, MemoryStats, NativeAddon, Storage } from '@equipoise/native';
import { type DeviceKind, loadAddon } from '@equipoise/native';
import type { BackendValues, DataType, TensorInfo } from '@tensorflow/tfjs-core';
import * as tf from '@tensorflow/tfjs-core';

type DataId = TensorInfo['dataId'];

interface Entry {
  dtype: DataType;
  shape: number[];
  refCount: number;
  /** Device memory, seen under `shape`; absent for complex64 and string. */
  handle?: Handle;
  /** The same memory under the shapes of TensorFlow.js tensors that share it (reshapes). */
  views?: Array<{ shape: number[]; handle: Handle }>;
  /** A copy of small int32 values that came from the host: indices are checked there without waiting for the device. */
  integers?: Int32Array;
  /** The two halves of a complex64 tensor. */
  complex?: { real: TensorInfo; imag: TensorInfo };
  /** Strings stay on the host: no kernel computes with them. */
  strings?: Uint8Array[];
}

/** How TensorFlow.js types lie on the device when nothing asks otherwise. */
export function storageOf(dtype: DataType): Storage {
  if (dtype === 'float32') return 'f32';
  if (dtype === 'int32') return 'i32';
  if (dtype === 'bool') return 'bool';
  throw new TypeError(`${dtype} tensors cannot be stored on the device`);
}

const KEPT_INTEGERS = 1 << 12;

export interface DeviceMemoryInfo extends MemoryStats {
  unreliable: boolean;
  /** Bytes of device memory in live tensors; the name other TensorFlow.js backends use. */
  numBytesInGPU: number;
}

export class EquipoiseBackend extends tf.KernelBackend {
  readonly native: NativeAddon;
  private readonly data: tf.DataStorage<Entry>;

  constructor(readonly kind: DeviceKind) {
    super();
    this.native = loadAddon(kind);
    this.data = new tf.DataStorage<Entry>(this, tf.engine());
  }

  override write(values: BackendValues, shape: number[], dtype: DataType): DataId {
    const dataId = {};
    this.move(dataId, values, shape, dtype, 1);
    return dataId;
  }

  override move(
    dataId: DataId,
    values: BackendValues,
    shape: number[],
    dtype: DataType,
    refCount: number,
  ): void {
    const entry: Entry = { dtype, shape, refCount };
    if (dtype === 'string') entry.strings = values as Uint8Array[];
    else if (dtype === 'complex64')
      throw new TypeError(
        'complex64 values cannot be moved between backends; move the real and imaginary parts',
      );
    else
      entry.handle = this.native.upload(
        hostArray(values, dtype),
        storageOf(dtype),
        shape,
        storageOf(dtype),
        false,
      );
    if (dtype === 'int32' && values.length <= KEPT_INTEGERS)
      entry.integers = Int32Array.from(values as Int32Array);
    this.data.set(dataId, entry);
  }

  /** Gives a device tensor to TensorFlow.js. `shape` is the handle's own. */
  register(handle: Handle, shape: number[], dtype: DataType): TensorInfo {
    const dataId = {};
    this.data.set(dataId, { dtype, shape, refCount: 1, handle });
    return { dataId, shape, dtype };
  }

  /** Gives the pair of a complex tensor; takes over one reference to each part. */
  registerComplex(real: TensorInfo, imag: TensorInfo): TensorInfo {
    const dataId = {};
    this.data.set(dataId, { dtype: 'complex64', shape: real.shape, refCount: 1, complex: { real, imag } });
    return { dataId, shape: real.shape, dtype: 'complex64' };
  }

  /** The values of a small int32 tensor that came from the host; undefined for all others. */
  knownIntegers(info: TensorInfo): Int32Array | undefined {
    return this.data.get(info.dataId).integers;
  }

  /** The values of a string tensor; undefined for all others. */
  strings(info: TensorInfo): Uint8Array[] | undefined {
    return this.data.get(info.dataId).strings;
  }

  complexParts(info: TensorInfo): { real: TensorInfo; imag: TensorInfo } {
    const parts = this.data.get(info.dataId).complex;
    if (!parts) throw new TypeError(`expected a complex64 tensor, got ${info.dtype}`);
    return parts;
  }

  /**
   * The device tensor behind a TensorFlow.js tensor, in that tensor's shape. It is freed with the tensor's data.
   * `op` names the kernel in the error for types it cannot take.
   */
  handle(info: TensorInfo, op: string): Handle {
    const entry = this.data.get(info.dataId);
    if (!entry.handle) throw new TypeError(`${op}: ${info.dtype} tensors are not supported by ${this.kind}`);
    if (sameShape(entry.shape, info.shape)) return entry.handle;
    entry.views ??= [];
    let view = entry.views.find(({ shape }) => sameShape(shape, info.shape));
    if (!view) {
      view = { shape: info.shape, handle: this.native.reshape(entry.handle, info.shape) };
      entry.views.push(view);
    }
    return view.handle;
  }

  override async read(dataId: DataId): Promise<BackendValues> {
    const entry = this.data.get(dataId);
    if (entry.strings) return entry.strings;
    if (entry.complex) {
      const { real, imag } = entry.complex;
      const [re, im] = await Promise.all([this.read(real.dataId), this.read(imag.dataId)]);
      return tf.backend_util.mergeRealAndImagArrays(re as Float32Array, im as Float32Array);
    }
    return this.native.read(entry.handle as Handle);
  }

  override readSync(dataId: DataId): BackendValues {
    const entry = this.data.get(dataId);
    if (entry.strings) return entry.strings;
    if (entry.complex) {
      const { real, imag } = entry.complex;
      return tf.backend_util.mergeRealAndImagArrays(
        this.readSync(real.dataId) as Float32Array,
        this.readSync(imag.dataId) as Float32Array,
      );
    }
    return this.native.readSync(entry.handle as Handle);
  }

  override refCount(dataId: DataId): number {
    return this.data.has(dataId) ? this.data.get(dataId).refCount : 0;
  }

  override incRef(dataId: DataId): void {
    this.data.get(dataId).refCount++;
  }

  override disposeData(dataId: DataId, force = false): boolean {
    if (!this.data.has(dataId)) return true;
    const entry = this.data.get(dataId);
    entry.refCount--;
    if (!force && entry.refCount > 0) return false;
    if (entry.complex) {
      this.disposeData(entry.complex.real.dataId, force);
      this.disposeData(entry.complex.imag.dataId, force);
    }
    if (entry.handle) this.native.release(entry.handle);
    for (const { handle } of entry.views ?? []) this.native.release(handle);
    this.data.delete(dataId);
    return true;
  }

  disposeInfo(info: TensorInfo): void {
    this.disposeData(info.dataId);
  }

  override numDataIds(): number {
    return this.data.numDataIds();
  }

  override memory(): DeviceMemoryInfo {
    const stats = this.native.memory();
    return { unreliable: false, numBytesInGPU: stats.inUse, ...stats };
  }

  /** Resolves when everything queued so far has run; rejects with a pending kernel fault. */
  async flush(): Promise<void> {
    const marker = this.native.upload(new Uint8Array(1), 'bool', [1], 'bool', false);
    try {
      await this.native.read(marker);
    } finally {
      this.native.release(marker);
    }
  }

  override timerAvailable(): boolean {
    return true;
  }

  /**
   * Wall time of the kernels that `f` queues, in milliseconds. Waits for the device, without yielding: tf.profile times
   * many kernels in turn, and each has to begin when the one before it is over.
   */
  override async time(f: () => void): Promise<tf.BackendTimingInfo> {
    this.native.synchronize();
    const start = performance.now();
    f();
    this.native.synchronize();
    return { kernelMs: performance.now() - start };
  }

  override floatPrecision(): 16 | 32 {
    return 32;
  }

  override epsilon(): number {
    return 1e-7;
  }

  /** The device outlives the backend: TensorFlow.js may create it anew at once, and handles free themselves. */
  override dispose(): void {}
}

const sameShape = (a: readonly number[], b: readonly number[]): boolean =>
  a === b || (a.length === b.length && a.every((size, i) => size === b[i]));

/** TensorFlow.js hands over plain arrays and mismatched typed arrays now and then. */
function hostArray(values: BackendValues, dtype: DataType): HostArray {
  if (dtype === 'float32')
    return values instanceof Float32Array ? values : Float32Array.from(values as ArrayLike<number>);
  if (dtype === 'int32')
    return values instanceof Int32Array ? values : Int32Array.from(values as ArrayLike<number>);
  return values instanceof Uint8Array ? values : Uint8Array.from(values as ArrayLike<number>);
}

/** The current TensorFlow.js backend, if it is one of ours. */
export function currentDevice(): EquipoiseBackend | undefined {
  const backend = tf.engine().backend;
  return backend instanceof EquipoiseBackend ? backend : undefined;
}
