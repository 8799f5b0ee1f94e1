/** The fused ops: TensorFlow.js kernels with gradients, native where the engine has them, portable elsewhere. */
export { ACTIVATIONS, type Activation, activate } from './activation.js';
export { type AdamWOptions, type AdamWParameter, adamW } from './adam-w.js';
export { type AttentionOptions, attention } from './attention.js';
export { type Conv2DOptions, conv2d, type Padding } from './conv2d.js';
export { fusedKernelNames, isPortable, registerPortable, runPortable } from './define.js';
export {
  DIRECTION_FLOOR,
  type DirectionAlignmentOptions,
  type DirectionAlignmentResult,
  directionAlignmentLoss,
} from './direction-alignment-loss.js';
export { type DoraLinearOptions, doraLinear, doraNorm } from './dora-linear.js';
export { geglu } from './geglu.js';
export { gelu } from './gelu.js';
export { type GroupNormOptions, groupNorm } from './group-norm.js';
export { type GuidedStepOptions, guidedStep } from './guided-step.js';
export { type LayerNormOptions, layerNorm } from './layer-norm.js';
export { linear, type ProductOptions } from './linear.js';
export { miSquaredNorm } from './mi-squared-norm.js';
export { quickGelu } from './quick-gelu.js';
export { type RandomOptions, randomNormal, randomUniform } from './random.js';
export { silu } from './silu.js';
