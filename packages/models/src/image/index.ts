export * from './clip-preprocess.js';
export * from './decode.js';
export * from './resize-bicubic.js';
