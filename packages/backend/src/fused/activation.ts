/** The activations that `linear` and `conv2d` can apply in their epilogue. */
import * as tf from '@tensorflow/tfjs-core';
import { gelu, geluValue } from './gelu.js';
import { quickGelu, quickGeluValue } from './quick-gelu.js';
import { silu } from './silu.js';

/** Names of the fused activations; gelu is the exact one. */
export const ACTIVATIONS = ['none', 'relu', 'silu', 'gelu', 'quick_gelu'] as const;

/** The name of a fused activation; 'gelu' is the exact one. */
export type Activation = (typeof ACTIVATIONS)[number];

/** Applies an activation as ordinary ops: for portable compositions. */
export function composeActivation<T extends tf.Tensor>(x: T, activation: Activation): T {
  switch (activation) {
    case 'none':
      return x;
    case 'relu':
      return tf.relu(x);
    case 'silu':
      return tf.mul(x, tf.sigmoid(x));
    case 'gelu':
      return geluValue(x) as T;
    case 'quick_gelu':
      return quickGeluValue(x) as T;
  }
}

/** Applies an activation as a fused, differentiable op. */
export function activate<T extends tf.Tensor>(x: T, activation: Activation): T {
  switch (activation) {
    case 'none':
      return x;
    case 'relu':
      return tf.relu(x);
    case 'silu':
      return silu(x);
    case 'gelu':
      return gelu(x);
    case 'quick_gelu':
      return quickGelu(x);
  }
}
