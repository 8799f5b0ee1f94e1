export * from './denoise.js';
export * from './folder.js';
export * from './guidance.js';
export type { GenerateHooks, GenerateInputs, PipelineParts } from './inputs.js';
export * from './noise.js';
export * from './options.js';
export * from './pipeline.js';
export type { ImageSettings } from './settings.js';
export * from './text.js';
