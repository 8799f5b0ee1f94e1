/** Registers the backends with TensorFlow.js. `equipoise-cpu` becomes the default. */
import * as tf from '@tensorflow/tfjs-core';
import { EquipoiseBackend } from './backend.js';
import { SIMT_ENGINE } from './engine.js';
import { registerPortable } from './fused/index.js';
import './storage.js';

// Above the priorities of TensorFlow.js's own backends (cpu 1, webgl 2, tensorflow 3).
tf.registerBackend('equipoise-cpu', () => new EquipoiseBackend('cpu'), 10);
// Below the CPU: a GPU is used when asked for, and its absence is then an error (useEngine tells it), not a fallback.
tf.registerBackend('equipoise-cuda', () => new EquipoiseBackend('cuda'), 0);

if (process.env.EQUIPOISE_TEST_ENGINE === SIMT_ENGINE)
  tf.registerBackend(SIMT_ENGINE, () => new EquipoiseBackend('simt'), 0);

for (const name of ['cpu', 'tensorflow', 'equipoise-cpu', 'equipoise-cuda', SIMT_ENGINE])
  registerPortable(name);
