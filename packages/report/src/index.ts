export * from './html.js';
export * from './plot.js';
export * from './table.js';
export { maskedCrc32c, TensorBoardWriter } from './tensorboard.js';
