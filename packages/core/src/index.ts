export * from './atomic.js';
export * from './errors.js';
export * from './hash.js';
export * from './json.js';
export * from './nearest.js';
export * from './progress.js';
export * from './random.js';
export * from './round.js';
