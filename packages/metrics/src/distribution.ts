/** How evenly categories, or weights, are spread. */
import { invalid } from '@equipoise/core';
import { type BootstrapOptions, bootstrap, type Estimate } from './bootstrap.js';
import { checkFinite } from './matrix.js';

/** How often each of `categories` labels 0..categories-1 occurs. */
export function countLabels(labels: ArrayLike<number>, categories: number): Float64Array {
  if (!Number.isInteger(categories) || categories < 1) {
    throw invalid('categories', 'a positive integer', categories);
  }
  const counts = new Float64Array(categories);
  for (let i = 0; i < labels.length; i++) {
    const label = labels[i] as number;
    if (!Number.isInteger(label) || label < 0 || label >= categories) {
      throw invalid(`labels[${i}]`, `an integer from 0 to ${categories - 1}`, label);
    }
    counts[label] = (counts[label] as number) + 1;
  }
  return counts;
}

/** Checks that every number is finite and not negative; gives their sum, which must be positive. */
function sumOf(name: string, values: ArrayLike<number>, what: string): number {
  checkFinite(name, values);
  let total = 0;
  for (let i = 0; i < values.length; i++) {
    if ((values[i] as number) < 0) throw invalid(`${name}[${i}]`, 'a number >= 0', values[i]);
    total += values[i] as number;
  }
  if (total === 0) throw invalid(name, what, values);
  return total;
}

/**
 * Kullback-Leibler divergence of counts from a target distribution, in nats: sum p ln(p / q). 0 when the shares are
 * the target's; infinite when something occurs that the target excludes.
 * @param counts non-negative, not all zero; need not be whole
 * @param target non-negative, not all zero, as many as counts; need not sum to 1
 */
export function klToTarget(counts: ArrayLike<number>, target: ArrayLike<number>): number {
  if (target.length !== counts.length)
    throw invalid('target', `${counts.length} shares, one per category`, target.length);
  const total = sumOf('counts', counts, 'at least one observation');
  const whole = sumOf('target', target, 'at least one positive share');
  let sum = 0;
  for (let i = 0; i < counts.length; i++) {
    const share = (counts[i] as number) / total;
    if (share > 0) sum += share * Math.log((share * whole) / (target[i] as number));
  }
  return Math.max(sum, 0);
}

/**
 * {@link klToTarget} of the uniform distribution: sum p ln(p K). 0 for equal counts, ln K when one category has
 * everything (ITI-GEN's distribution discrepancy).
 */
export function klToUniform(counts: ArrayLike<number>): number {
  return klToTarget(counts, new Uint8Array(counts.length).fill(1));
}

/**
 * {@link klToTarget} of labels with a bootstrap interval. The divergence is biased upwards in small
 * samples, by about (K - 1) / (2 n), and so are the interval's ends: a value of 0 may lie below them.
 */
export function klToTargetWithInterval(
  labels: ArrayLike<number>,
  target: ArrayLike<number>,
  options: BootstrapOptions = {},
): Estimate {
  countLabels(labels, target.length);
  const counts = new Float64Array(target.length);
  const statistic = (indices: Uint32Array): number => {
    counts.fill(0);
    for (const index of indices) {
      const label = labels[index] as number;
      counts[label] = (counts[label] as number) + 1;
    }
    return klToTarget(counts, target);
  };
  return bootstrap(labels.length, statistic, options);
}

/** {@link klToTargetWithInterval} of the uniform distribution. */
export function klToUniformWithInterval(
  labels: ArrayLike<number>,
  categories: number,
  options: BootstrapOptions = {},
): Estimate {
  countLabels(labels, categories);
  return klToTargetWithInterval(labels, new Uint8Array(categories).fill(1), options);
}
