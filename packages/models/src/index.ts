export * from './clip/index.js';
export type { ParsedConfig } from './config.js';
export { ConfiguredModel, type ModelClass } from './configured-model.js';
export * from './image/index.js';
export * from './inception/index.js';
export { Linear, type LinearAdapter } from './layers.js';
export {
  type LoadOptions,
  loadWeights,
  Model,
  type RandomOptions,
  randomWeights,
} from './model.js';
export { Module } from './module.js';
export { Parameter, type WeightStorage } from './parameter.js';
export type { ManifestEntry, NamedTensor, StateDict, StateEntry, WeightDtype } from './state-dict.js';
export { tensorSources } from './tensor-sources.js';
export * from './tokenizer/index.js';
export * from './unet/index.js';
export * from './vae/index.js';
