/** Rank correlations with ties. */
import { invalid, prose } from '@equipoise/core';
import { checkFinite } from './matrix.js';

function checkPair(x: ArrayLike<number>, y: ArrayLike<number>): void {
  if (x.length !== y.length)
    throw invalid('y', `${x.length} values, as many as x`, prose(`${y.length} values`));
  if (x.length < 2) throw invalid('x', 'at least 2 values', prose(`${x.length}`));
  checkFinite('x', x);
  checkFinite('y', y);
}

/** Pairs within runs of equal neighbours of a sorted list: sum of t (t - 1) / 2. */
function tiedPairs(count: number, equal: (i: number, j: number) => boolean): number {
  let pairs = 0;
  let run = 1;
  for (let i = 1; i <= count; i++) {
    if (i < count && equal(i - 1, i)) run++;
    else {
      pairs += (run * (run - 1)) / 2;
      run = 1;
    }
  }
  return pairs;
}

/** Sorts in place by merging and returns how many pairs were out of order. */
function sortCountingInversions(values: Float64Array): number {
  let inversions = 0;
  let source: Float64Array = values;
  let target: Float64Array = new Float64Array(values.length);
  for (let width = 1; width < values.length; width *= 2) {
    for (let low = 0; low < values.length; low += 2 * width) {
      const middle = Math.min(low + width, values.length);
      const high = Math.min(low + 2 * width, values.length);
      let left = low;
      let right = middle;
      for (let k = low; k < high; k++) {
        const takeRight =
          left >= middle || (right < high && (source[right] as number) < (source[left] as number));
        if (takeRight) {
          inversions += middle - left;
          target[k] = source[right++] as number;
        } else target[k] = source[left++] as number;
      }
    }
    [source, target] = [target, source];
  }
  if (source !== values) values.set(source);
  return inversions;
}

/**
 * Kendall's tau-b, (P - Q) / sqrt((P + Q + X0)(P + Q + Y0)) with P and Q concordant and discordant pairs
 * and X0, Y0 pairs tied in one of the two only. O(n log n) (Knight 1966).
 * @returns from -1 to 1; NaN when either list is constant, for then it is not defined
 */
export function kendallTauB(x: ArrayLike<number>, y: ArrayLike<number>): number {
  checkPair(x, y);
  const count = x.length;
  const order = Array.from({ length: count }, (_, i) => i).sort(
    (i, j) => (x[i] as number) - (x[j] as number) || (y[i] as number) - (y[j] as number),
  );
  const sameX = (i: number, j: number): boolean => x[order[i] as number] === x[order[j] as number];
  const sameY = (i: number, j: number): boolean => y[order[i] as number] === y[order[j] as number];
  const tiedX = tiedPairs(count, sameX);
  const tiedBoth = tiedPairs(count, (i, j) => sameX(i, j) && sameY(i, j));
  const byX = Float64Array.from(order, (i) => y[i] as number);
  const discordant = sortCountingInversions(byX);
  const tiedY = tiedPairs(count, (i, j) => byX[i] === byX[j]);
  const pairs = (count * (count - 1)) / 2;
  const score = pairs - tiedX - tiedY + tiedBoth - 2 * discordant;
  return correlation(score / Math.sqrt(pairs - tiedX) / Math.sqrt(pairs - tiedY));
}

/** Rounding may lead a little beyond 1; NaN stays. */
const correlation = (value: number): number => Math.max(-1, Math.min(value, 1));

/** Ranks from 1, equal values sharing the mean of their ranks. */
export function averageRanks(values: ArrayLike<number>): Float64Array {
  const order = Array.from({ length: values.length }, (_, i) => i).sort(
    (i, j) => (values[i] as number) - (values[j] as number),
  );
  const ranks = new Float64Array(values.length);
  for (let start = 0; start < order.length; ) {
    let end = start + 1;
    while (end < order.length && values[order[end] as number] === values[order[start] as number]) end++;
    for (let k = start; k < end; k++) ranks[order[k] as number] = (start + end + 1) / 2;
    start = end;
  }
  return ranks;
}

/**
 * Deviations from the mean, scaled to a largest of 1: squares then neither overflow nor vanish. Undefined for a constant
 * list, whose computed mean may differ from its values by rounding.
 */
function deviations(values: ArrayLike<number>): Float64Array | undefined {
  const list = Float64Array.from(values);
  if (list.every((value) => value === list[0])) return undefined;
  const mean = list.reduce((sum, value) => sum + value, 0) / list.length;
  const largest = list.reduce((max, value) => Math.max(max, Math.abs(value - mean)), 0);
  return list.map((value) => (value - mean) / largest);
}

/** Pearson's correlation; NaN when either list is constant. */
export function pearson(x: ArrayLike<number>, y: ArrayLike<number>): number {
  checkPair(x, y);
  const [fromX, fromY] = [deviations(x), deviations(y)];
  if (fromX === undefined || fromY === undefined) return Number.NaN;
  let [xy, xx, yy] = [0, 0, 0];
  for (const [i, dx] of fromX.entries()) {
    const dy = fromY[i] as number;
    xy += dx * dy;
    xx += dx * dx;
    yy += dy * dy;
  }
  return correlation(xy / Math.sqrt(xx) / Math.sqrt(yy));
}

/** Spearman's rho: Pearson's correlation of the average ranks. */
export function spearman(x: ArrayLike<number>, y: ArrayLike<number>): number {
  checkPair(x, y);
  return pearson(averageRanks(x), averageRanks(y));
}
