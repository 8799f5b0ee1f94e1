import type { Handle, Storage } from '../binding.js';

/**
 * Functions of one tensor and what they give, as in native/kernels/elementwise/unary/ops.h: the type of x (keep), real
 * numbers or a condition. `alpha` is read by leakyRelu and step.
 */
export const UNARY_OPS = {
  abs: 'keep',
  neg: 'keep',
  square: 'keep',
  sign: 'keep',
  floor: 'keep',
  ceil: 'keep',
  round: 'keep',
  relu: 'keep',
  relu6: 'keep',
  step: 'keep',
  exp: 'real',
  expm1: 'real',
  log: 'real',
  log1p: 'real',
  sqrt: 'real',
  rsqrt: 'real',
  reciprocal: 'real',
  sin: 'real',
  cos: 'real',
  tan: 'real',
  asin: 'real',
  acos: 'real',
  atan: 'real',
  sinh: 'real',
  cosh: 'real',
  asinh: 'real',
  acosh: 'real',
  atanh: 'real',
  tanh: 'real',
  erf: 'real',
  sigmoid: 'real',
  elu: 'real',
  selu: 'real',
  softplus: 'real',
  leakyRelu: 'real',
  isNan: 'test',
  isInf: 'test',
  isFinite: 'test',
  logicalNot: 'test',
} as const satisfies Record<string, 'keep' | 'real' | 'test'>;
export type UnaryOp = keyof typeof UNARY_OPS;

/**
 * Functions of two tensors that broadcast, as in native/kernels/elementwise/binary/ops.h: of numbers of any type
 * (numeric), of real numbers, or conditions.
 */
export const BINARY_OPS = {
  add: 'numeric',
  sub: 'numeric',
  multiply: 'numeric',
  realDiv: 'numeric',
  floorDiv: 'numeric',
  mod: 'numeric',
  pow: 'numeric',
  maximum: 'numeric',
  minimum: 'numeric',
  squaredDifference: 'numeric',
  atan2: 'real',
  prelu: 'real',
  eluGrad: 'real',
  equal: 'test',
  notEqual: 'test',
  less: 'test',
  lessEqual: 'test',
  greater: 'test',
  greaterEqual: 'test',
  logicalAnd: 'test',
  logicalOr: 'test',
} as const satisfies Record<string, 'numeric' | 'real' | 'test'>;
export type BinaryOp = keyof typeof BINARY_OPS;

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
