/** The fused ops: TensorFlow.js kernels with gradients, native where the engine has them, portable elsewhere. */
import { registerPortable } from './define.js';

export { type Activation, ACTIVATIONS, activate } from './activation.js';
export { type AttentionOptions, attention } from './attention.js';
export { type Conv2DOptions, conv2d, type Padding } from './conv2d.js';
export { fusedKernelNames, registerPortable, runPortable } from './define.js';
export { geglu } from './geglu.js';
export { gelu } from './gelu.js';
export { type GroupNormOptions, groupNorm } from './group-norm.js';
export { type LayerNormOptions, layerNorm } from './layer-norm.js';
export { linear } from './linear.js';
export { quickGelu } from './quick-gelu.js';
export { silu } from './silu.js';

for (const backendName of ['cpu', 'tensorflow']) registerPortable(backendName);
