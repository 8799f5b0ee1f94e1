export type { UNetConfig } from './config.js';
export { CrossAttentionCache } from './cross-attention-cache.js';
export { sinusoidalEmbedding } from './time-embedding.js';
export { type AddedConditions, UNet2DConditionModel, type UNetOptions } from './unet.js';
