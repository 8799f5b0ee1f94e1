// One zod for everyone: a schema made with another copy would not carry the metadata.
export { z } from 'zod';
export * from './atomic.js';
export { readCommandLine } from './command-line.js';
export * from './environment.js';
export * from './errors.js';
export * from './hash.js';
export * from './journal.js';
export * from './json.js';
export * from './lock.js';
export * from './nearest.js';
export type { FieldKind } from './option-kinds.js';
export * from './options.js';
export * from './progress.js';
export * from './progress-lines.js';
export * from './random.js';
export * from './round.js';
export * from './run.js';
export * from './strict-json.js';
