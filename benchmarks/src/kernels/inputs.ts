/** Makes a case's inputs on the current engine, the same values everywhere. */
import { type Precision, randomNormal, toStorage, uploadWeight } from '@equipoise/backend';
import { PhiloxStream } from '@equipoise/core';
import * as tf from '@tensorflow/tfjs-core';
import { count, type InputSpec } from './case.js';

/** Standard normal values (times each spec's scale), seeded by the input's position. */
export function makeInputs(specs: readonly InputSpec[], precision: Precision): tf.Tensor[] {
  return specs.map(({ shape, role, scale = 1 }, i) => {
    if (role === 'weight') {
      const values = new PhiloxStream(7, i).fillNormal(new Float32Array(count(shape))).map((v) => v * scale);
      return uploadWeight(new Uint8Array(values.buffer), [...shape], 'F32', { storage: precision });
    }
    // Drawn on the engine: a GPU's inputs would otherwise take longer than all that is timed.
    const tensor = tf.tidy(() => tf.mul(randomNormal([...shape], { seed: 7, stream: i }), scale));
    if (role !== 'variable' && (role === 'vector' || precision === 'f32')) return tensor;
    const stored = role === 'variable' ? tf.variable(tensor, false) : toStorage(tensor, precision);
    tensor.dispose();
    return stored;
  });
}
