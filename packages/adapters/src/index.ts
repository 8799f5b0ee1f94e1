export * from './attach.js';
export * from './load.js';
export { type AdapterInit, type LowRankTensors, LowRankUpdate } from './low-rank.js';
export * from './save.js';
export { AdapterStack } from './stack.js';
