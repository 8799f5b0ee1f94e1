import '@tensorflow/tfjs';

export * from './fused/index.js';
