export { AutoencoderKL, DiagonalGaussian, type TilingOptions } from './autoencoder.js';
export { type AutoencoderConfig, parseAutoencoderConfig } from './config.js';
