export * from './inception.js';
export { INCEPTION_RESIZES, type InceptionResize, inceptionPixels } from './preprocess.js';
