/** Judges a benchmark record against an earlier one. */
import { PhiloxSequence } from '@equipoise/core';
import { geometricMean, median, ratioInterval } from '../measure/statistics.js';
import type { BenchmarkRecord, CaseRecord } from '../record.js';

export type Verdict = 'same' | 'slower' | 'faster' | 'ambiguous' | 'invalid';

/** Exit status by verdict, so that a job can tell a regression from a measurement that says nothing. */
export const EXIT_STATUS: Readonly<Record<Verdict, number>> = {
  same: 0,
  slower: 1,
  invalid: 2,
  ambiguous: 3,
  faster: 4,
};

export interface CaseComparison {
  readonly id: string;
  readonly verdict: Verdict;
  /** New time over old time, both as multiples of what the ceilings of their rounds allowed. */
  readonly ratio: number;
  /** 99 % interval of the ratio. */
  readonly low: number;
  readonly high: number;
}

export interface Comparison {
  readonly verdict: Verdict;
  /** Why nothing can be said; empty unless the verdict is invalid. */
  readonly reasons: readonly string[];
  readonly cases: readonly CaseComparison[];
  /** Cases of one record alone: they are not judged. */
  readonly onlyBase: readonly string[];
  readonly onlyNext: readonly string[];
  /** Geometric mean of the cases' ratios. */
  readonly ratio: number;
}

/** Changes smaller than this do not count. */
const TOLERANCE = 0.05;
export const FEWEST_SAMPLES = 5;

/**
 * Compares case by case. Times are divided by the floor of their own round, so that a slower clock on one day is no
 * regression. The verdict is `slower` if any case surely is; else `ambiguous` if any case could be; else `faster` if
 * any surely is; else `same`.
 */
export function compareRecords(base: BenchmarkRecord, next: BenchmarkRecord): Comparison {
  const [old, fresh] = [base, next].map((record) => new Map(record.cases.map((item) => [item.id, item])));
  const missing = (from: BenchmarkRecord, other: typeof old): string[] =>
    from.cases.flatMap(({ id }) => (other?.has(id) ? [] : [id]));
  const apart = { onlyBase: missing(base, fresh), onlyNext: missing(next, old) };
  const invalid = (reasons: string[], cases: CaseComparison[] = []): Comparison => ({
    verdict: 'invalid',
    reasons,
    cases,
    ...apart,
    ratio: Number.NaN,
  });
  const reasons = incomparable(base, next);
  if (reasons.length > 0) return invalid(reasons);
  const cases = next.cases.flatMap((item) => {
    const before = old?.get(item.id);
    return before === undefined ? [] : [compareCase(before, item)];
  });
  const measured = cases.filter((item) => item.verdict !== 'invalid');
  if (measured.length === 0) return invalid([`no case has ${FEWEST_SAMPLES} steady samples in both`], cases);
  const ratio = geometricMean(measured.map((item) => item.ratio));
  return { verdict: overall(cases), reasons: [], cases, ...apart, ratio };
}

function overall(cases: readonly CaseComparison[]): Verdict {
  const any = (verdict: Verdict): boolean => cases.some((item) => item.verdict === verdict);
  if (any('slower')) return 'slower';
  if (any('ambiguous') || any('invalid')) return 'ambiguous';
  return any('faster') ? 'faster' : 'same';
}

function incomparable(base: BenchmarkRecord, next: BenchmarkRecord): string[] {
  const reasons: string[] = [];
  if (base.suite !== next.suite) reasons.push(`different suites: ${base.suite} and ${next.suite}`);
  for (const key of ['model', 'isa', 'matrixIsa', 'threads'] as const) {
    const [a, b] = [base.device[key], next.device[key]];
    if (a !== b) reasons.push(`different devices: ${key} ${String(a)} and ${String(b)}`);
  }
  const ids = new Set(base.cases.map((item) => item.id));
  if (!next.cases.some((item) => ids.has(item.id))) reasons.push('no case is in both');
  for (const [id, message] of Object.entries(next.failures))
    reasons.push(`${id} failed: ${message.split('\n')[0]}`);
  return reasons;
}

function compareCase(base: CaseRecord, next: CaseRecord): CaseComparison {
  const relative = ({ seconds, floors }: CaseRecord): number[] =>
    seconds.map((value, i) => value / (floors[i] as number));
  const [before, after] = [relative(base), relative(next)];
  const usable = [before, after].every(
    (values) => values.length >= FEWEST_SAMPLES && values.every((v) => Number.isFinite(v) && v > 0),
  );
  if (!usable)
    return { id: next.id, verdict: 'invalid', ratio: Number.NaN, low: Number.NaN, high: Number.NaN };
  const sequence = new PhiloxSequence(1);
  const { low, high } = ratioInterval(after, before, () => sequence.uniform());
  const ratio = median(after) / median(before);
  return { id: next.id, verdict: judge(low, high), ratio, low, high };
}

function judge(low: number, high: number): Verdict {
  if (low > 1 + TOLERANCE) return 'slower';
  if (high < 1 / (1 + TOLERANCE)) return 'faster';
  // An interval that reaches past the tolerance on the slow side could hide a regression.
  return high > 1 + 2 * TOLERANCE ? 'ambiguous' : 'same';
}
