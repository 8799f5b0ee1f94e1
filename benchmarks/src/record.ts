/** The JSON record of a benchmark run; everything needed to judge and repeat it. */
import type { GitState } from '@equipoise/core';

export const FORMAT = 1;

export interface CaseRecord {
  /** `family label precision`: the same in every run. */
  readonly id: string;
  readonly family: string;
  readonly precision: 'f32' | 'bf16';
  readonly kernels: readonly string[];
  readonly flops: number;
  readonly bytes: number;
  /** Seconds of each kept round, ours. */
  readonly seconds: readonly number[];
  /** Seconds that the ceilings of the same round allow. */
  readonly floors: readonly number[];
  /** Median seconds of each peer at its best number of threads. */
  readonly peers: Readonly<
    Record<string, { readonly seconds: number; readonly threads: number; readonly ratio: number }>
  >;
  /** Why a peer could not run. */
  readonly peerProblems: Readonly<Record<string, string>>;
  /** Share of the floor that is reached: 1 is the ceiling. */
  readonly ofCeiling: number;
  readonly discarded: number;
}

export interface BenchmarkRecord {
  readonly format: typeof FORMAT;
  readonly suite: string;
  readonly argv: readonly string[];
  readonly startedAt: string;
  readonly seconds: number;
  readonly git: GitState | null;
  readonly machine: Readonly<Record<string, string | number>>;
  readonly device: Readonly<Record<string, string | number | boolean>>;
  readonly packages: Readonly<Record<string, string>>;
  /** Versions of peers, or null with the reason. */
  readonly peerVersions: Readonly<Record<string, string>> | null;
  readonly peerProblem: string | null;
  readonly cases: readonly CaseRecord[];
  /** Geometric means of ours over peers' speed (above 1 is faster), by family and precision; and other summaries. */
  readonly summary: Readonly<Record<string, number>>;
}
