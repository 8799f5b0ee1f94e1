export * from './bootstrap.js';
export * from './distribution.js';
export * from './frechet.js';
export * from './kernel-distance.js';
export type { Rows } from './matrix.js';
export * from './rank.js';
export * from './similarity.js';
