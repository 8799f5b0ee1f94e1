/**
 * Gradient checkpointing: keep a block's inputs instead of its intermediates, and run the block again when
 * its gradient is due (Chen et al. 2016, "Training deep nets with sublinear memory cost").
 */
import * as tf from '@tensorflow/tfjs-core';

/**
 * Runs `block` on `inputs`. Inside a gradient its intermediates are freed at once and recomputed later.
 *
 * @param block a pure function of its arguments and of frozen weights, returning one tensor
 * @param variables trainable variables that `block` reads
 */
export function checkpoint<T extends tf.Tensor>(
  block: (...inputs: tf.Tensor[]) => T,
  inputs: readonly tf.Tensor[],
  variables: readonly tf.Variable[],
): T {
  const run = tf.customGrad((...args: (tf.Tensor | tf.GradSaveFunc)[]) => {
    const save = args[args.length - 1] as tf.GradSaveFunc;
    const given = args.slice(0, inputs.length) as tf.Tensor[];
    save(given);
    return {
      value: block(...given),
      gradFunc: (dy: tf.Tensor, saved: tf.Tensor[]) => recompute(block, saved, variables, dy as T),
    };
  });
  return run(...inputs, ...variables) as T;
}

function recompute<T extends tf.Tensor>(
  block: (...inputs: tf.Tensor[]) => T,
  inputs: tf.Tensor[],
  variables: readonly tf.Variable[],
  dy: T,
): tf.Tensor[] {
  const sources = [...inputs, ...variables];
  const { state } = tf.engine();
  // A gradient inside a gradient function replaces the engine's tape and then drops it; the outer
  // gradient still needs its own to free what it saved.
  const outerTape = state.activeTape;
  try {
    const { value, grads } = tf.engine().gradients(() => block(...inputs), sources, dy, true);
    value.dispose();
    return sources.map((source, i) => grads[i] ?? tf.zerosLike(source));
  } finally {
    state.activeTape = outerTape;
  }
}
