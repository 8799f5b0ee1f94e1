export type {
  DeviceDescription,
  DeviceListing,
  Handle,
  HostArray,
  MemoryStats,
  NativeAddon,
  NativeOps,
  ProfileRange,
  RecordingHandle,
  SourceDType,
  Storage,
} from './binding.js';
export { AddonLoadError, addonCandidates, type DeviceKind, loadAddon } from './load.js';
export { NativeActivation } from './ops/activation.js';
export type { ConvWindow } from './ops/conv.js';
export { BINARY_OPS, type BinaryOp, UNARY_OPS, type UnaryOp } from './ops/elementwise.js';
export { FusedActivation } from './ops/gemm.js';
export type { PoolWindow } from './ops/image.js';
export type { ViewOp } from './ops/movement.js';
export type { ReductionOp } from './ops/reduce.js';
