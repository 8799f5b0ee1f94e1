/** What a kernel case is. One table of families serves correctness, gradients, speed and the agreement test. */
import type { Precision } from '@equipoise/backend';
import type * as tf from '@tensorflow/tfjs-core';

/** How an input is made: activations follow the precision, weights are frozen in it, the rest stays f32. */
export type InputRole = 'activation' | 'weight' | 'vector' | 'variable';

export interface InputSpec {
  readonly shape: readonly number[];
  readonly role: InputRole;
  /** Standard deviation of the values; default 1. */
  readonly scale?: number;
}

/** A call that a peer process can make: a script of tools/peers, and a kind it knows with its sizes. */
export interface PeerCall {
  readonly script: string;
  readonly case: { readonly kind: string } & Readonly<Record<string, string | number | readonly number[]>>;
}

export type Sizes = Readonly<Record<string, number>>;

/** One kind of kernel, at any sizes. */
export interface KernelFamily<S extends Sizes = Sizes> {
  readonly name: string;
  /** TensorFlow.js kernels that it runs, forward and backward. */
  readonly kernels: readonly string[];
  /** Sizes that are timed: those of real models. */
  readonly sizes: readonly S[];
  /** Sizes at which results are compared with the portable composition: small and awkward. */
  readonly checks: readonly S[];
  readonly precisions: readonly Precision[];
  label(sizes: S): string;
  inputs(sizes: S): readonly InputSpec[];
  /** One call, on the current engine. */
  compute(inputs: readonly tf.Tensor[], sizes: S): tf.Tensor | tf.Tensor[];
  flops(sizes: S): number;
  /** Least bytes moved, with `width` bytes for each element of activations and weights. */
  bytes(sizes: S, width: number): number;
  /** What others do for the same result, by name. */
  peers?(sizes: S): Readonly<Record<string, PeerCall>>;
  /** Indices of the inputs whose gradients are compared; none for what is not differentiable. */
  readonly differentiable?: readonly number[];
  /** Largest relative error (Euclidean norm) against the composition in f32; default 1e-5. */
  readonly tolerance?: number;
}

/** Declares a family; exists for type inference, and forgets the type of its sizes. */
export function defineFamily<S extends Sizes>(family: KernelFamily<S>): KernelFamily {
  return family as unknown as KernelFamily;
}

/** Product of a shape. */
export function count(shape: readonly number[]): number {
  return shape.reduce((a, b) => a * b, 1);
}
