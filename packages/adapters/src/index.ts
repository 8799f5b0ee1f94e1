export * from './attach.js';
export { type AdapterInit, LowRankUpdate, type LowRankTensors } from './low-rank.js';
export { AdapterStack } from './stack.js';
