export * from './attributes.js';
export * from './clip-folder.js';
export * from './embeddings.js';
export * from './features.js';
export * from './prompt.js';
export * from './tokens.js';
export * from './train.js';
export * from './train-job.js';
