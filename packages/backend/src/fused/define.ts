/**
 * How a fused op becomes a TensorFlow.js kernel: a name, a portable composition of ordinary ops (the definition, and
 * what runs on engines without a native kernel of that name) and, where training needs it, a gradient.
 */
import * as tf from '@tensorflow/tfjs-core';

type TensorMap = Record<string, tf.Tensor>;

/** A fused kernel. `I` are its inputs (named, or an array where some are optional and saved), `A` its attributes. */
export interface FusedKernel<I, A> {
  name: string;
  /** The composition of ordinary ops that defines the kernel. It runs inside tf.tidy, without a tape. */
  portable(inputs: I, attrs: A): tf.Tensor | tf.Tensor[];
  /** What the tape keeps, and the gradient with respect to each input, computed only when asked for. */
  gradient?: {
    inputsToSave?: string[];
    saveAllInputs?: boolean;
    outputsToSave?: boolean[];
    /** `dy` has one tensor per output of the kernel. */
    backward(
      dy: tf.Tensor[],
      saved: tf.Tensor[],
      attrs: A,
    ): Record<string, () => tf.Tensor> | Array<() => tf.Tensor>;
  };
}

/** A defined kernel: calls it on the current engine. */
export type Launch<I, A> = <R extends tf.Tensor | tf.Tensor[] = tf.Tensor>(inputs: I, attrs: A) => R;

const kernels = new Map<string, FusedKernel<never, never>>();

/** Defines a fused kernel, registers its gradient, and returns the function that runs it on the current engine. */
export function defineKernel<I, A extends object>(kernel: FusedKernel<I, A>): Launch<I, A> {
  if (kernels.has(kernel.name)) throw new Error(`fused kernel ${kernel.name} is defined twice`);
  kernels.set(kernel.name, kernel as unknown as FusedKernel<never, never>);
  const { gradient } = kernel;
  if (gradient !== undefined) {
    tf.registerGradient({
      kernelName: kernel.name,
      ...(gradient.inputsToSave && { inputsToSave: gradient.inputsToSave }),
      ...(gradient.saveAllInputs && { saveAllInputs: true }),
      ...(gradient.outputsToSave && { outputsToSave: gradient.outputsToSave }),
      gradFunc: (dy, saved, attrs) =>
        gradient.backward(Array.isArray(dy) ? dy : [dy], saved, attrs as unknown as A) as Record<
          string,
          () => tf.Tensor
        >,
    });
  }
  return <R extends tf.Tensor | tf.Tensor[]>(inputs: I, attrs: A): R =>
    tf
      .engine()
      .runKernel(kernel.name, inputs as unknown as TensorMap, attrs as unknown as tf.NamedAttrMap) as R;
}

/** The names of all fused kernels. */
export function fusedKernelNames(): string[] {
  return [...kernels.keys()];
}

const portableRegistrations = new WeakSet<tf.KernelFunc>();

/** Whether the current engine runs the portable composition of a fused kernel. */
export function isPortable(name: string): boolean {
  return portableRegistrations.has(tf.getKernel(name, tf.getBackend()).kernelFunc);
}

/**
 * Registers the portable composition of every fused kernel for a backend, except where the backend has a kernel of
 * that name already. Returns the names that it registered.
 */
export function registerPortable(backendName: string): string[] {
  const registered: string[] = [];
  for (const kernel of kernels.values() as Iterable<FusedKernel<unknown, unknown>>) {
    if (tf.getKernel(kernel.name, backendName) != null) continue;
    const kernelFunc: tf.KernelFunc = ({ inputs, attrs }) => tf.tidy(() => kernel.portable(inputs, attrs));
    portableRegistrations.add(kernelFunc);
    tf.registerKernel({ kernelName: kernel.name, backendName, kernelFunc });
    registered.push(kernel.name);
  }
  return registered;
}

/** Runs the portable composition of a kernel on the current engine, whatever that engine has registered. */
export function runPortable(name: string, inputs: unknown, attrs: unknown): tf.Tensor | tf.Tensor[] {
  const kernel = kernels.get(name) as FusedKernel<unknown, unknown> | undefined;
  if (kernel === undefined) throw new RangeError(`runPortable: name: expected a fused kernel, got '${name}'`);
  return tf.tidy(() => kernel.portable(inputs, attrs));
}

interface Scope {
  id: number;
  track: tf.Tensor[];
}

/**
 * For gradients that come out of one launch but are asked for one at a time: runs `compute` on first demand and hands
 * its results to the scope that was active when `shared` was called (the backward pass), so that they outlive the
 * scope of the single request and are freed with the pass even when some are never asked for.
 */
export function shared<R extends tf.Tensor[]>(
  compute: () => R,
): <K extends keyof R & number>(index: K) => R[K] {
  const state = tf.engine().state as unknown as { activeScope: Scope | null };
  const owner = state.activeScope;
  let results: R | undefined;
  return (index) => {
    if (results === undefined) {
      results = compute();
      const current = state.activeScope;
      if (owner !== null && current !== null && current !== owner) {
        const moved = new Set<tf.Tensor>(results);
        current.track = current.track.filter((tensor) => !moved.has(tensor));
        for (const tensor of moved) {
          owner.track.push(tensor);
          (tensor as unknown as { scopeId: number }).scopeId = owner.id;
        }
      }
    }
    return results[index];
  };
}

/**
 * The first of a kernel's outputs; frees the others, which the tape keeps for the gradient by itself where it needs
 * them.
 */
export function onlyFirst<T extends tf.Tensor>([first, ...others]: [T, ...tf.Tensor[]]): T {
  for (const other of others) other.dispose();
  return first;
}

/** Runs `compute` with the tape off: nothing inside it is differentiated through. */
export function detached<R>(compute: () => R): R {
  const state = tf.engine().state as unknown as { kernelDepth: number };
  state.kernelDepth++;
  try {
    return compute();
  } finally {
    state.kernelDepth--;
  }
}
