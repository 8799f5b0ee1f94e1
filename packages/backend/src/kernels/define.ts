/** Registration helpers: kernels are written once and registered for all native devices. */
import type { Handle, NativeOps } from '@equipoise/native';
import type { DataType, KernelFunc, TensorInfo } from '@tensorflow/tfjs-core';
import * as tf from '@tensorflow/tfjs-core';
import type { EquipoiseBackend } from '../backend.js';

export const NATIVE_BACKENDS = ['equipoise-cpu', 'equipoise-cuda', 'equipoise-simt'] as const;

/** What a kernel function works with. */
export class KernelCall {
  constructor(
    readonly kernelName: string,
    readonly backend: EquipoiseBackend,
    private readonly inputs: Record<string, unknown>,
    private readonly attrs: Record<string, unknown>,
  ) {}

  get ops(): NativeOps {
    return this.backend.native.ops;
  }
  input(name: string): TensorInfo {
    return this.inputs[name] as TensorInfo;
  }
  /** An input that may be absent. */
  optional(name: string): TensorInfo | undefined {
    return (this.inputs[name] as TensorInfo | null | undefined) ?? undefined;
  }
  /** Inputs passed as an array (Concat, AddN, Pack, ...). */
  list(): TensorInfo[] {
    return this.inputs as unknown as TensorInfo[];
  }
  attr<T>(name: string): T {
    return this.attrs[name] as T;
  }
  handle(info: TensorInfo): Handle {
    return this.backend.handle(info, this.kernelName);
  }
  output(handle: Handle, shape: number[], dtype: DataType): TensorInfo {
    return this.backend.register(handle, shape, dtype);
  }
  /** The same for a handle whose own shape may differ; takes the handle over. */
  outputAs(handle: Handle, shape: number[], dtype: DataType): TensorInfo {
    const { native } = this.backend;
    const view = native.reshape(handle, shape);
    native.release(handle);
    return this.backend.register(view, shape, dtype);
  }
  /** Runs a composition of native ops; every handle passed through `keep` is released at its end. */
  temporaries<T>(run: (keep: (handle: Handle) => Handle) => T): T {
    const kept: Handle[] = [];
    try {
      return run((handle) => {
        kept.push(handle);
        return handle;
      });
    } finally {
      for (const handle of kept) this.backend.native.release(handle);
    }
  }
  /** Another reference to the same data, as a reshape. */
  alias(info: TensorInfo, shape: number[] = info.shape): TensorInfo {
    this.backend.incRef(info.dataId);
    return { dataId: info.dataId, shape, dtype: info.dtype };
  }
  dispose(info: TensorInfo): void {
    this.backend.disposeInfo(info);
  }
}

/** Registers a kernel under a TensorFlow.js kernel name for all native devices. */
export function defineNative(kernelName: string, run: (call: KernelCall) => TensorInfo | TensorInfo[]): void {
  const kernelFunc: KernelFunc = ({ inputs, attrs, backend }) =>
    run(
      new KernelCall(
        kernelName,
        backend as EquipoiseBackend,
        inputs,
        (attrs ?? {}) as Record<string, unknown>,
      ),
    );
  for (const backendName of NATIVE_BACKENDS) tf.registerKernel({ kernelName, backendName, kernelFunc });
}
