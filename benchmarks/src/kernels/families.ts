import { matrixFamilies } from './matrix-families.js';
import { pointwiseFamilies } from './pointwise-families.js';
import { trainingFamilies } from './training-families.js';

/** Every kernel that is timed. A fused kernel that no family lists fails the agreement test. */
export const kernelFamilies = [...matrixFamilies, ...pointwiseFamilies, ...trainingFamilies];
