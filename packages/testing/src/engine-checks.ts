/** Checks that need a TensorFlow.js engine: leaks and gradients. */
import { EquipoiseError, invalid, PhiloxStream } from '@equipoise/core';
import * as tf from '@tensorflow/tfjs-core';
import { type Difference, requireClose, requireFinite, type Tolerance } from './compare.js';

/** Waits until the current engine has run everything it was given. */
export async function settle(): Promise<void> {
  const probe = tf.scalar(0);
  await probe.data();
  probe.dispose();
}

/**
 * Runs `work` `repeats` times and requires that the engine's tensors, data buffers and bytes end where they
 * began. The first run is a warm-up and not counted: it may create what the engine keeps, such as constants.
 *
 * @throws EquipoiseError `internal` with the counts before and after
 */
export async function requireNoLeak(
  name: string,
  work: () => Promise<unknown> | unknown,
  { repeats = 3 }: { repeats?: number } = {},
): Promise<void> {
  await work();
  await settle();
  const before = tf.memory();
  for (let i = 0; i < repeats; i++) await work();
  await settle();
  const after = tf.memory();
  const grown = (['numTensors', 'numDataBuffers', 'numBytes'] as const).filter(
    (key) => after[key] !== before[key],
  );
  if (grown.length === 0) return;
  const changes = grown.map((key) => `${key} ${before[key]} -> ${after[key]}`).join(', ');
  throw new EquipoiseError('internal', `${name}: leaks over ${repeats} runs: ${changes}`);
}

/** A function of tensors to one tensor of any shape. */
export type TensorFunction = (...inputs: tf.Tensor[]) => tf.Tensor;

export interface GradientCheckOptions extends Tolerance {
  /** Step of the central difference, relative to max(1, |x|). Default 1e-2: float32 needs a wide one. */
  readonly step?: number;
  /** Directions tried for each input. Default 3. */
  readonly directions?: number;
  readonly seed?: number;
}

/**
 * Compares the gradients of `f` with central differences along random directions, for each input apart.
 *
 * The output is reduced to a number with fixed random weights w; for each input x and direction v (both
 * standard normal), `<grad, v>` must equal `(<w, f(x + hv)> - <w, f(x - hv)>) / 2h`. The reduction is summed
 * in float64, so that what is measured is f and not the sum. Directions test every element of a gradient at
 * two evaluations each, which an element-wise check of a big tensor could not afford.
 *
 * @param inputs float32 values and shapes, one per argument of f
 * @throws EquipoiseError `numeric` that names input and direction
 */
export async function requireGradients(
  name: string,
  f: TensorFunction,
  inputs: readonly { readonly values: Float32Array; readonly shape: readonly number[] }[],
  options: GradientCheckOptions = {},
): Promise<Difference[]> {
  const { step = 1e-2, directions = 3, seed = 0, ...tolerance } = options;
  const limits: Tolerance =
    Object.keys(tolerance).length > 0 ? tolerance : { absolute: 1e-2, relative: 1e-2 };
  const tensors = inputs.map(({ values, shape }) => tf.tensor(values, [...shape], 'float32'));
  const measured: Difference[] = [];
  try {
    const weights = await outputWeights(f, tensors, seed);
    const gradients = await weightedGradients(f, tensors, weights);
    const weighted = async (args: tf.Tensor[]): Promise<number> => {
      const output = tf.tidy(() => f(...args));
      const values = (await output.data()) as Float32Array;
      output.dispose();
      return dot(values, weights);
    };
    for (const [i, input] of inputs.entries()) {
      requireFinite(`${name}: gradient of input ${i}`, gradients[i] as Float32Array);
      for (let d = 0; d < directions; d++) {
        const direction = new PhiloxStream(seed, 1 + i * directions + d).fillNormal(
          new Float32Array(input.values.length),
        );
        const slope = await directionalSlope(weighted, tensors, i, input.values, direction, step);
        const product = dot(gradients[i] as Float32Array, direction);
        measured.push(requireClose(`${name}: input ${i}, direction ${d}`, [product], [slope], limits));
      }
    }
    return measured;
  } finally {
    tf.dispose(tensors);
  }
}

async function outputWeights(f: TensorFunction, tensors: tf.Tensor[], seed: number): Promise<Float32Array> {
  const output = tf.tidy(() => f(...tensors));
  const size = output.size;
  output.dispose();
  return new PhiloxStream(seed, 0).fillNormal(new Float32Array(size));
}

async function weightedGradients(
  f: TensorFunction,
  tensors: tf.Tensor[],
  weights: Float32Array,
): Promise<Float32Array[]> {
  const output = tf.tidy(() => {
    const shape = f(...tensors).shape;
    return tf.grads(f)(tensors, tf.tensor(weights, shape));
  });
  const values = await Promise.all(output.map((gradient) => gradient.data() as Promise<Float32Array>));
  for (const [i, gradient] of output.entries()) {
    const expected = (tensors[i] as tf.Tensor).shape;
    if (gradient.shape.join() !== expected.join())
      throw invalid(`gradient of input ${i}`, `shape [${expected}]`, gradient.shape);
  }
  tf.dispose(output);
  return values;
}

/** The central difference of `f` along `direction`, which input `index` with these values moves. */
async function directionalSlope(
  f: (args: tf.Tensor[]) => Promise<number>,
  tensors: readonly tf.Tensor[],
  index: number,
  values: Float32Array,
  direction: Float32Array,
  step: number,
): Promise<number> {
  const scale = values.reduce((max, value) => Math.max(max, Math.abs(value)), 1);
  const length = Math.sqrt(dot(direction, direction)) || 1;
  // Along a unit direction, whatever the number of elements, f moves by a comparable amount.
  const h = (step * scale) / length;
  const evaluate = async (sign: 1 | -1): Promise<number> => {
    const moved = tf.tensor(
      values.map((value, j) => value + sign * h * (direction[j] as number)),
      tensors[index]?.shape,
    );
    try {
      return await f(tensors.map((tensor, i) => (i === index ? moved : tensor)));
    } finally {
      moved.dispose();
    }
  };
  return ((await evaluate(1)) - (await evaluate(-1))) / (2 * h);
}

function dot(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += (a[i] as number) * (b[i] as number);
  return sum;
}
