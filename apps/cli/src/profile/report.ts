/** The figures of a profile: what `equipoise profile --json` writes. */
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  busyMs,
  CeilingProbe,
  type Ceilings,
  type DeviceProfile,
  getPrecision,
  type LaunchTotals,
  launchTotals,
  type TaskTotals,
  taskTotals,
} from '@equipoise/backend';
import { type GitState, gitState, machineInfo } from '@equipoise/core';
import type { NativeAddon } from '@equipoise/native';
import { programVersion } from '../version.js';

export interface ProfileRecord {
  readonly format: 1;
  readonly kind: 'profile';
  readonly version: string;
  readonly argv: readonly string[];
  readonly startedAt: string;
  readonly git: GitState | null;
  readonly machine: Readonly<Record<string, string | number>>;
  readonly device: Readonly<Record<string, string | number | boolean>>;
  /** Precision of the command, which the multiply-add ceiling is of. */
  readonly precision: 'f32' | 'bf16';
  /** FLOP/s, and bytes per second read and written. */
  readonly ceilings: Ceilings;
  /** Wall time of the command. */
  readonly ms: number;
  /** Of it, milliseconds in which the device ran launches: the sum of their times. */
  readonly deviceMs: number;
  readonly launches: number;
  readonly memory: {
    /** Most device bytes in live tensors at once. */
    readonly devicePeakBytes: number;
    /** Largest resident size of the process. */
    readonly residentPeakBytes: number;
  };
  readonly tasks: readonly TaskTotals[];
  /** By op, and by op and shapes of its inputs; most time first. */
  readonly ops: readonly LaunchTotals[];
  readonly shapes: readonly LaunchTotals[];
}

const CEILING_ROUNDS = 5;

/** The ceilings of a device: the best of a few short measurements, now that nothing else runs on it. */
function measureCeilings(native: NativeAddon, precision: 'f32' | 'bf16'): Ceilings {
  const probe = new CeilingProbe(native);
  try {
    const rounds = Array.from({ length: CEILING_ROUNDS }, () => probe.measure(precision));
    return {
      flops: Math.max(...rounds.map(({ flops }) => flops)),
      bandwidth: Math.max(...rounds.map(({ bandwidth }) => bandwidth)),
    };
  } finally {
    probe.dispose();
  }
}

/** Sums up a profile beside the ceilings of its device, which are measured now. */
export async function profileRecord(
  profile: DeviceProfile,
  { native, argv, started }: { native: NativeAddon; argv: readonly string[]; started: Date },
): Promise<ProfileRecord> {
  const residentPeakBytes = process.resourceUsage().maxRSS * 1024;
  const precision = getPrecision();
  const ceilings = measureCeilings(native, precision);
  return {
    format: 1,
    kind: 'profile',
    version: programVersion(),
    argv,
    startedAt: started.toISOString(),
    git: await gitState(dirname(fileURLToPath(import.meta.url))),
    machine: machineInfo(),
    device: profile.device,
    precision,
    ceilings,
    ms: profile.endMs - profile.startMs,
    deviceMs: busyMs(profile.launches),
    launches: profile.launches.kind.length,
    memory: { devicePeakBytes: profile.memory.peakBytes, residentPeakBytes },
    tasks: taskTotals(profile),
    ops: launchTotals(profile.launches, 'op', ceilings),
    shapes: launchTotals(profile.launches, 'shapes', ceilings),
  };
}
