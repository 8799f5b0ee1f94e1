/**
 * TensorFlow.js on Equipoise's own engine. Importing this brings TensorFlow.js's gradients, registers the backends
 * `equipoise-cpu` (and `equipoise-cuda` where its addon was built), and registers every fused kernel: natively on our
 * backends, as a portable composition on `cpu` and `tensorflow`.
 */
import '@tensorflow/tfjs';
import './kernels/index.js';
import './register.js';

export { currentDevice, type DeviceMemoryInfo, EquipoiseBackend } from './backend.js';
export * from './engine.js';
export * from './fused/index.js';
export * from './profile/ceilings.js';
export * from './profile/session.js';
export * from './profile/totals.js';
export { traceLines } from './profile/trace.js';
export * from './recording.js';
export * from './storage.js';
export * from './upload-weight.js';
