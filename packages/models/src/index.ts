export * from './clip/index.js';
export type { ParsedConfig } from './config.js';
export { Linear, type LinearAdapter } from './layers.js';
export { type LoadOptions, Model, type RandomOptions, type WeightStorage } from './model.js';
export { Module } from './module.js';
export { Parameter } from './parameter.js';
export type { ManifestEntry, NamedTensor, StateDict, StateEntry, WeightDtype } from './state-dict.js';
export * from './unet/index.js';
export * from './vae/index.js';
