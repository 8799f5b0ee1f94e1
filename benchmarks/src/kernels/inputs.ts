/** Makes a case's inputs on the current engine, the same values everywhere. */
import { type Precision, toStorage, uploadWeight } from '@equipoise/backend';
import { PhiloxStream } from '@equipoise/core';
import * as tf from '@tensorflow/tfjs-core';
import { count, type InputSpec } from './case.js';

/** Standard normal values (times each spec's scale), seeded by the input's position. */
export function makeInputs(specs: readonly InputSpec[], precision: Precision): tf.Tensor[] {
  return specs.map(({ shape, role, scale = 1 }, i) => {
    const values = new PhiloxStream(7, i).fillNormal(new Float32Array(count(shape))).map((v) => v * scale);
    if (role === 'weight')
      return uploadWeight(new Uint8Array(values.buffer), [...shape], 'F32', { storage: precision });
    const tensor = tf.tensor(values, [...shape], 'float32');
    if (role === 'variable') return tf.variable(tensor, false);
    if (role === 'vector' || precision === 'f32') return tensor;
    const stored = toStorage(tensor, precision);
    tensor.dispose();
    return stored;
  });
}
