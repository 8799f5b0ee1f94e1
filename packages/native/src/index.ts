export type { DeviceDescription, Handle, HostArray, MemoryStats, NativeAddon, NativeOps, ProfileRange, SourceDType, Storage } from './binding.js';
export { AddonLoadError, addonCandidates, type DeviceKind, loadAddon } from './load.js';
export { NativeActivation } from './ops/activation.js';
export { FusedActivation } from './ops/gemm.js';
