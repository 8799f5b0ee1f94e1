export { PhiloxSequence, PhiloxStream, philox4x32, splitU64, streamId } from './philox.js';
export { Mt19937, TorchGenerator } from './torch-random.js';
