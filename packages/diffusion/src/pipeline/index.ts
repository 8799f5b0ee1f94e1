export * from './denoise.js';
export * from './folder.js';
export * from './guidance.js';
export * from './noise.js';
export * from './options.js';
export * from './pipeline.js';
export * from './text.js';
