import type { Handle, Storage } from '../binding.js';

/** Functions of one tensor (native/kernels/elementwise/unary/ops.h); `alpha` is read by leakyRelu and step. */
export const UNARY_OPS = [
  ...(['abs', 'neg', 'square', 'sign', 'floor', 'ceil', 'round', 'relu', 'relu6', 'step'] as const),
  ...([
    'exp',
    'expm1',
    'log',
    'log1p',
    'sqrt',
    'rsqrt',
    'reciprocal',
    'sin',
    'cos',
    'tan',
    'asin',
    'acos',
    'atan',
  ] as const),
  ...([
    'sinh',
    'cosh',
    'asinh',
    'acosh',
    'atanh',
    'tanh',
    'erf',
    'sigmoid',
    'elu',
    'selu',
    'softplus',
    'leakyRelu',
  ] as const),
  ...(['isNan', 'isInf', 'isFinite', 'logicalNot'] as const),
] as const;
export type UnaryOp = (typeof UNARY_OPS)[number];

/** Functions of two tensors that broadcast (native/kernels/elementwise/binary/ops.h). */
export const BINARY_OPS = [
  ...([
    'add',
    'sub',
    'multiply',
    'realDiv',
    'floorDiv',
    'mod',
    'pow',
    'maximum',
    'minimum',
    'squaredDifference',
  ] as const),
  ...([
    'atan2',
    'prelu',
    'eluGrad',
    'equal',
    'notEqual',
    'less',
    'lessEqual',
    'greater',
    'greaterEqual',
  ] as const),
  ...(['logicalAnd', 'logicalOr'] as const),
] as const;
export type BinaryOp = (typeof BINARY_OPS)[number];

type UnaryOps = Record<UnaryOp, (x: Handle, alpha?: number) => Handle>;
type BinaryOps = Record<BinaryOp, (a: Handle, b: Handle) => Handle>;

/** Native kernels in native/kernels/elementwise. */
export interface ElementwiseOps extends UnaryOps, BinaryOps {
  clip(x: Handle, low: number, high: number): Handle;
  /** condition ? a : b, all three broadcast. */
  select(condition: Handle, a: Handle, b: Handle): Handle;
  /** Shares the memory when x is stored so already. */
  cast(x: Handle, storage: Storage): Handle;
  fill(storage: Storage, shape: readonly number[], value: number): Handle;
  /** start + i * step, i < count */
  range(storage: Storage, count: number, start: number, step: number): Handle;
}
