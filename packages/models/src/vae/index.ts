export { AutoencoderKL, type TilingOptions } from './autoencoder.js';
export type { AutoencoderConfig } from './config.js';
