/** The JSON record of a benchmark run, the same for all suites; everything needed to judge and repeat it. */
import { invalid, parseJson, prose, z } from '@equipoise/core';

export const FORMAT = 2;
/** Format 1 had no failures, units, memory or times of peers, and a share of the ceiling everywhere. */
const READABLE = [1, FORMAT];

const positives = z.array(z.number().positive());

const peerSchema = z.object({
  /** Median, at the peer's best number of threads. */
  seconds: z.number(),
  threads: z.number().optional(),
  /** Median over rounds of the peer's time over ours: above 1 we are faster. */
  ratio: z.number(),
  /** Of each kept round. */
  samples: positives.optional(),
});

const caseSchema = z.object({
  /** The same in every run. */
  id: z.string(),
  family: z.string(),
  precision: z.enum(['f32', 'bf16']),
  /** TensorFlow.js kernels that are timed; empty for whole models and methods. */
  kernels: z.array(z.string()),
  /** Of one call; 0 where none are counted. */
  flops: z.number().nonnegative(),
  bytes: z.number().nonnegative(),
  /** Seconds of one call in each kept round, ours. */
  seconds: positives,
  /** The yardstick of each round: what its ceilings allow for one call, or what the same work took that does not change. */
  floors: positives,
  /** What one call makes, for rates such as images per second. */
  units: z.object({ name: z.string(), count: z.number().positive() }).optional(),
  peers: z.record(z.string(), peerSchema),
  /** Why a peer could not run. */
  peerProblems: z.record(z.string(), z.string()),
  /** Largest resident size of each side's process. */
  peakBytes: z.record(z.string(), z.number()).optional(),
  /** Median share of the floor that is reached: 1 is the ceiling. Null where the floor is a yardstick only. */
  ofCeiling: z.number().nullable(),
  /** Rounds that were throttled. */
  discarded: z.number(),
});

const recordSchema = z.object({
  format: z.number(),
  suite: z.string(),
  argv: z.array(z.string()),
  startedAt: z.string(),
  /** Duration of the whole run. */
  seconds: z.number(),
  git: z.object({ commit: z.string(), branch: z.string().nullable(), dirty: z.boolean() }).nullable(),
  machine: z.record(z.string(), z.union([z.string(), z.number()])),
  device: z.record(z.string(), z.union([z.string(), z.number(), z.boolean()])),
  packages: z.record(z.string(), z.string()),
  /** Versions of peers, or null with the reason. */
  peerVersions: z.record(z.string(), z.string()).nullable(),
  peerProblem: z.string().nullable(),
  cases: z.array(caseSchema),
  /** Cases that could not be timed, with the error. */
  failures: z.record(z.string(), z.string()).default({}),
  /** Geometric means of ours over peers' speed (above 1 is faster), by family and precision; and other summaries. */
  summary: z.record(z.string(), z.number().nullable()),
});

export type CaseRecord = Readonly<z.infer<typeof caseSchema>>;
export type BenchmarkRecord = Readonly<z.infer<typeof recordSchema>>;

/**
 * Reads a record.
 *
 * @param source its file, for errors
 * @throws EquipoiseError `corrupt` for broken JSON, `invalid` for anything but a record of a known format
 */
export function parseRecord(text: string, source: string): BenchmarkRecord {
  const value = parseJson(text, source);
  const format = (value as { format?: unknown } | null)?.format;
  if (format === undefined)
    throw invalid(source, 'a record that a benchmark wrote with --json', prose('one without a format'));
  if (!READABLE.includes(format as number))
    throw invalid(`${source}: format`, READABLE.join(' or '), format, {
      hints: ['It was written by another version: run both benchmarks with one of them.'],
    });
  const result = recordSchema.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  throw invalid(`${source}: ${issue?.path.join('.')}`, 'a benchmark record', prose(issue?.message ?? ''));
}
