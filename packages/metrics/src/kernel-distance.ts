/** The kernel distance between two sets of feature vectors (KID). */
import { invalid, PhiloxSequence } from '@equipoise/core';
import { checkRows, type Rows } from './matrix.js';

export interface KernelDistanceOptions {
  /** Of the groups that larger sets are split into. Default 0. */
  readonly seed?: number;
  /** Rows of a set that are compared with each other. Default 1000. */
  readonly groupSize?: number;
}

export interface KernelDistance {
  /** Unbiased, so that it may lie below 0 for sets that are alike. */
  readonly value: number;
  /**
   * By the jackknife over the rows of both sets, up to 1.4 times too large for sets that are alike; null where a set has
   * fewer than 3 rows.
   */
  readonly standardError: number | null;
}

/**
 * Kernel distance: the unbiased squared maximum mean discrepancy under the kernel (x.y / d + 1)^3 (Binkowski et al.
 * 2018). Sets of up to `groupSize` rows are compared whole, of whatever two sizes; larger ones are split at random into
 * as many groups of about that size as the larger set needs, each row in one group, and the mean over groups is taken.
 * KID as published takes the mean over 100 random subsets of at most 1000, which has the same expectation.
 *
 * @param a rows of any scale; unlike the Frechet distance, the kernel depends on it
 */
export function kernelDistance(a: Rows, b: Rows, options: KernelDistanceOptions = {}): KernelDistance {
  const { seed = 0, groupSize = 1000 } = options;
  checkRows('first features', a, 2);
  checkRows('second features', b, 2);
  if (a.width !== b.width) throw invalid('features', `width ${a.width} in both sets`, b.width);
  if (!Number.isInteger(groupSize) || groupSize < 3) throw invalid('groupSize', 'an integer >= 3', groupSize);
  const wanted = Math.ceil(Math.max(a.count, b.count) / groupSize);
  const groups = Math.max(1, Math.min(wanted, Math.floor(Math.min(a.count, b.count) / 3)));
  const random = new PhiloxSequence(seed);
  const [ofA, ofB] = [a, b].map((rows) => splitRows(rows, groups, random)) as [Rows[], Rows[]];
  const parts = ofA.map((rows, i) => discrepancy(rows, ofB[i] as Rows));
  const value = parts.reduce((sum, part) => sum + part.value, 0) / groups;
  if (parts.some(({ variance }) => variance === null)) return { value, standardError: null };
  const variance = parts.reduce((sum, part) => sum + (part.variance as number), 0) / groups ** 2;
  return { value, standardError: Math.sqrt(variance) };
}

/** Groups whose sizes differ by one at most. */
function splitRows(rows: Rows, groups: number, random: PhiloxSequence): Rows[] {
  if (groups === 1) return [rows];
  const { width } = rows;
  const order = random.shuffle(Array.from({ length: rows.count }, (_, i) => i));
  return Array.from({ length: groups }, (_, g) => {
    const own = order.filter((_, i) => i % groups === g);
    const data = new Float64Array(own.length * width);
    for (const [at, row] of own.entries())
      for (let k = 0; k < width; k++) data[at * width + k] = rows.data[row * width + k] as number;
    return { data, count: own.length, width };
  });
}

/**
 * For each row of `a` the sum of the kernel over the rows of `b`, and the other way round. Where both are one set, a row
 * is not paired with itself.
 */
function kernelSums(a: Rows, b: Rows): [Float64Array, Float64Array] {
  const { width } = a;
  const [left, right] = [a, b].map(({ data }) => Float64Array.from(data)) as [Float64Array, Float64Array];
  const ofA = new Float64Array(a.count);
  const ofB = a === b ? ofA : new Float64Array(b.count);
  for (let i = 0; i < a.count; i++) {
    for (let j = a === b ? i + 1 : 0; j < b.count; j++) {
      let dot = 0;
      for (let k = 0, x = i * width, y = j * width; k < width; k++)
        dot += (left[x + k] as number) * (right[y + k] as number);
      const kernel = (dot / width + 1) ** 3;
      ofA[i] = (ofA[i] as number) + kernel;
      ofB[j] = (ofB[j] as number) + kernel;
    }
  }
  return [ofA, ofB];
}

const sumOf = (values: Float64Array): number => values.reduce((sum, value) => sum + value, 0);

/** The statistic of two whole sets, and its variance: of the values that leave one row out (Efron 1981). */
function discrepancy(a: Rows, b: Rows): { value: number; variance: number | null } {
  const [n, m] = [a.count, b.count];
  const [withinA] = kernelSums(a, a);
  const [withinB] = kernelSums(b, b);
  const [acrossA, acrossB] = kernelSums(a, b);
  const [ofA, ofB, across] = [sumOf(withinA), sumOf(withinB), sumOf(acrossA)];
  const statistic = (sumA: number, countA: number, sumB: number, countB: number, cross: number): number =>
    sumA / (countA * (countA - 1)) + sumB / (countB * (countB - 1)) - (2 * cross) / (countA * countB);
  const value = statistic(ofA, n, ofB, m, across);
  if (Math.min(n, m) < 3) return { value, variance: null };
  const withoutA = withinA.map((own, i) =>
    statistic(ofA - 2 * own, n - 1, ofB, m, across - (acrossA[i] as number)),
  );
  const withoutB = withinB.map((own, i) =>
    statistic(ofA, n, ofB - 2 * own, m - 1, across - (acrossB[i] as number)),
  );
  return { value, variance: jackknife(withoutA) + jackknife(withoutB) };
}

function jackknife(values: Float64Array): number {
  const { length } = values;
  const mean = sumOf(values) / length;
  return ((length - 1) / length) * values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
}
