export * from './convert.js';
export * from './dtypes.js';
export type { Header, TensorInfo } from './header.js';
export { MAX_HEADER_BYTES } from './header.js';
export * from './safetensors.js';
export * from './tensor-source.js';
export { isPickleName } from './unsafe-formats.js';
