export * from './candidates.js';
export * from './estimate.js';
export * from './example-set.js';
export * from './fine-tune.js';
export * from './mi-weight.js';
export * from './parts.js';
export * from './prompts.js';
export { studentQuantile } from './student.js';
export * from './sweep.js';
