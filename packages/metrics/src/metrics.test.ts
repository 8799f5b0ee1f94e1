import { readFileSync } from 'node:fs';
import { PhiloxSequence } from '@equipoise/core';
import t from 'tap';
import {
  averageRanks,
  bootstrap,
  clipScores,
  countLabels,
  featureStatistics,
  frechetDistance,
  kendallTauB,
  kernelDistance,
  klToTarget,
  klToUniform,
  klToUniformWithInterval,
  meanWithInterval,
  pearson,
  quantile,
  type Rows,
  spearman,
  vendiScore,
} from './index.js';

type Spec = [count: number, width: number, seed: number];
interface Reference {
  frechet: { a: Spec; b: Spec; value: number }[];
  kid: { a: Spec; b: Spec; value: number; error: number }[];
  vendi: { a: Spec; value: number }[];
  ranks: { x: number[]; y: number[]; kendall: number; spearman: number }[];
  kl: { counts: number[]; value: number }[];
}
const reference = JSON.parse(
  readFileSync(new URL('../fixtures/reference.json', import.meta.url), 'utf8'),
) as Reference;

/** The feature sets of the fixture maker. */
function features(count: number, width: number, seed: number): Rows {
  const data = new Float64Array(count * width);
  for (let i = 0; i < count; i++) {
    for (let j = 0; j < width; j++)
      data[i * width + j] = Math.sin(17 * i + 3 * j + (i * j) / 7 + seed) + j / 40;
  }
  return { data, count, width };
}

const close = (actual: number, expected: number, tolerance: number): boolean =>
  Math.abs(actual - expected) <= tolerance * Math.max(1, Math.abs(expected));

t.test('Frechet distance equals scipy, also with singular covariances', async (t) => {
  for (const { a, b, value } of reference.frechet) {
    const found = frechetDistance(featureStatistics(features(...a)), featureStatistics(features(...b)));
    // Roots of eigenvalues that are zero up to 1e-16 are good to 1e-8, in scipy as here.
    t.ok(close(found, value, 1e-6), `${a} and ${b}: ${found} is ${value}`);
  }
  const wide = { data: features(30, 64, 0).data, count: 30, width: 64 };
  const large = featureStatistics({ ...wide, data: Array.from(wide.data, (value) => 100 * value) });
  t.ok(frechetDistance(large, large) >= 0, 'equal sets of fewer rows than columns');
  t.ok(frechetDistance(large, large) < 1, 'and about 0');
  const still = (value: number): Rows => ({ data: [value, value, value, value], count: 2, width: 2 });
  const [at1, at2] = [featureStatistics(still(1)), featureStatistics(still(2))];
  t.equal(frechetDistance(at1, at1), 0, 'no variance');
  t.equal(frechetDistance(at1, at2), 2, 'no variance, other means');
  const one = featureStatistics(features(30, 4, 0));
  t.throws(() => frechetDistance(one, featureStatistics(features(30, 5, 0))), /width 4/);
  t.throws(() => featureStatistics(features(1, 4, 0)), /at least 2/);
  t.throws(() => featureStatistics({ data: [1, 2, Number.NaN, 4], count: 2, width: 2 }), { code: 'numeric' });
  t.throws(() => featureStatistics({ data: [1, 2, 3], count: 2, width: 2 }), /2 x 2 = 4 numbers/);
  for (const width of [0, 1.5])
    t.throws(() => featureStatistics({ data: [], count: 2, width }), /width: expected a positive integer/);
});

t.test('kernel distance and its jackknife equal numpy on whole sets, of two sizes, too', async (t) => {
  for (const { a, b, value, error } of reference.kid) {
    const found = kernelDistance(features(...a), features(...b));
    t.ok(close(found.value, value, 1e-9), `${found.value} is ${value}`);
    t.ok(close(found.standardError as number, error, 1e-9), `${found.standardError} is ${error}`);
  }
  t.equal(
    kernelDistance(features(2, 3, 0), features(5, 3, 1)).standardError,
    null,
    'too few to leave one out',
  );
  t.throws(() => kernelDistance(features(5, 4, 0), features(5, 3, 0)), /width 4 in both sets, got 3/);
  t.throws(() => kernelDistance(features(1, 3, 0), features(5, 3, 0)), /first features: number of rows/);
  t.throws(() => kernelDistance(features(5, 3, 0), features(5, 3, 0), { groupSize: 2 }), /groupSize/);
});

t.test('kernel distance is unbiased, and as uncertain as it says, in groups as well', async (t) => {
  const random = new PhiloxSequence(31);
  const draw = (count: number, shift = 0): Rows => ({
    data: Float64Array.from({ length: count * 6 }, () => random.normal() + shift),
    count,
    width: 6,
  });
  const measure = (shift: number, groupSize: number) => {
    const found = Array.from({ length: 300 }, () => kernelDistance(draw(40), draw(60, shift), { groupSize }));
    const values = found.map(({ value }) => value);
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    const spread = Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length);
    const squares = found.reduce((sum, { standardError }) => sum + (standardError as number) ** 2, 0);
    return { mean, spread, told: Math.sqrt(squares / found.length) };
  };
  for (const groupSize of [1000, 20]) {
    const alike = measure(0, groupSize);
    t.ok(Math.abs(alike.mean) < (3 * alike.spread) / Math.sqrt(300), `${alike.mean} of sets drawn alike`);
    const apart = measure(1, groupSize);
    t.ok(Math.abs(apart.told / apart.spread - 1) < 0.2, `error ${apart.told}, spread ${apart.spread}`);
    const ratio = alike.told / alike.spread;
    t.ok(ratio > 1 && ratio < 1.6, `alike, where the jackknife is cautious: ${ratio}`);
  }
  const [x, y] = [draw(100), draw(70)];
  const halves = { groupSize: 50, seed: 1 };
  t.strictSame(kernelDistance(x, y, halves), kernelDistance(x, y, halves), 'seeded');
  t.not(kernelDistance(x, y, { ...halves, seed: 2 }).value, kernelDistance(x, y, halves).value);
  t.equal(kernelDistance(x, y, { ...halves, groupSize: 100 }).value, kernelDistance(x, y).value);
  // 100 rows make two groups where 99 are the most of one, but no group has fewer than 3 rows.
  t.not(kernelDistance(x, y, { groupSize: 99 }).value, kernelDistance(x, y).value, 'the last row too');
  const few = draw(7);
  const split = kernelDistance(x, few, { groupSize: 3 });
  t.not(split.value, kernelDistance(x, few).value, 'in two groups');
  t.ok(split.standardError, 'each with three rows or more');
  const five = draw(5);
  t.strictSame(kernelDistance(x, five, { groupSize: 3 }), kernelDistance(x, five), 'too few for two groups');
});

t.test('Vendi score equals numpy on either side of n = d', async (t) => {
  for (const { a, value } of reference.vendi) t.ok(close(vendiScore(features(...a)), value, 1e-9), `${a}`);
  t.ok(close(vendiScore({ data: [1, 0, 0, 1], count: 2, width: 2 }), 2, 1e-12), 'orthogonal');
  t.ok(close(vendiScore({ data: [1, 2, 2, 4], count: 2, width: 2 }), 1, 1e-12), 'alike');
  t.throws(() => vendiScore({ data: [0, 0], count: 1, width: 2 }), /not zero/);
  t.ok(close(vendiScore({ data: [3, 4], count: 1, width: 2 }), 1, 1e-12), 'one row');
  for (const scale of [1e200, 1e-200])
    t.ok(close(vendiScore({ data: [scale, 0, 0, scale], count: 2, width: 2 }), 2, 1e-12), `rows of ${scale}`);
});

t.test('rank correlations equal scipy, ties included', async (t) => {
  for (const { x, y, kendall, spearman: rho } of reference.ranks) {
    t.ok(close(kendallTauB(x, y), kendall, 1e-12), `tau-b ${kendall}`);
    t.ok(close(spearman(x, y), rho, 1e-12), `rho ${rho}`);
  }
  t.ok(Number.isNaN(kendallTauB([1, 1], [1, 2])));
  t.ok(Number.isNaN(spearman([1, 1], [1, 2])));
  t.strictSame([...averageRanks([3, 1, 3, 2])], [3.5, 1, 3.5, 2]);
  t.ok(close(pearson([1, 2, 3], [2, 4, 6]), 1, 1e-15));
  // The computed mean of three times 0.1 is not 0.1.
  t.ok(Number.isNaN(pearson([0.1, 0.1, 0.1], [1, 2, 3])), 'a constant list');
  for (const scale of [1e200, 1e-200])
    t.ok(close(pearson([scale, 2 * scale, 3 * scale], [1, 2, 4]), pearson([1, 2, 3], [1, 2, 4]), 1e-14));
  const rising = Array.from({ length: 7 }, (_, i) => i * 0.1);
  t.ok(Math.abs(pearson(rising, rising)) <= 1 && kendallTauB(rising, rising) <= 1, 'never beyond 1');
  t.throws(() => kendallTauB([1, 2], [1]), /as many as x/);
  t.throws(() => spearman([1], [1]), /at least 2/);
});

t.test('divergence from uniform', async (t) => {
  for (const { counts, value } of reference.kl) t.ok(close(klToUniform(counts), value, 1e-14), `${counts}`);
  t.equal(klToUniform([3, 3, 3]), 0);
  t.ok(close(klToUniform([7, 0, 0, 0]), Math.log(4), 1e-15));
  t.ok(close(klToTarget([30, 10], [3, 1]), 0, 1e-15), 'shares as wanted');
  t.ok(close(klToTarget([1, 1], [3, 1]), 0.5 * Math.log(2 / 3) + 0.5 * Math.log(2), 1e-15));
  t.equal(klToTarget([1, 1], [1, 0]), Number.POSITIVE_INFINITY, 'what the target excludes occurs');
  t.equal(klToTarget([5, 0], [1, 0]), 0);
  t.throws(() => klToTarget([1, 1], [1]), /target: expected 2 shares/);
  t.throws(() => klToTarget([1, 1], [0, 0]), /target: expected at least one positive share/);
  t.equal(klToUniform([5]), 0, 'one category');
  t.throws(() => klToUniform([0, 0]), /at least one observation/);
  t.throws(() => klToUniform([]), /at least one observation/);
  t.throws(() => klToUniform([Number.NaN, 1]), { code: 'numeric' });
  t.throws(() => klToUniformWithInterval([], 2), /sample size: expected at least 1/);
  t.match(klToUniformWithInterval([0], 1), { value: 0, low: 0, high: 0, standardError: 0, count: 1 });
  t.throws(() => klToUniform([1, -1]), />= 0/);
  t.strictSame([...countLabels([0, 2, 2], 3)], [1, 0, 2]);
  t.throws(() => countLabels([3], 3), /labels\[0\]/);
  for (const categories of [0, 1.5])
    t.throws(() => countLabels([], categories), /categories: expected a positive/);

  const labels = Array.from({ length: 400 }, (_, i) => (i % 4 === 0 ? 1 : 0));
  const estimate = klToUniformWithInterval(labels, 2, { seed: 4 });
  t.ok(close(estimate.value, klToUniform([3, 1]), 1e-12));
  t.ok(estimate.low < estimate.value && estimate.value < estimate.high);
  t.strictSame(klToUniformWithInterval(labels, 2, { seed: 4 }), estimate, 'seeded');
});

t.test('bootstrap intervals cover the truth about as often as they say', async (t) => {
  const random = new PhiloxSequence(9);
  let covered = 0;
  for (let trial = 0; trial < 300; trial++) {
    const values = Float64Array.from({ length: 40 }, () => random.normal() + 2);
    const { low, high } = meanWithInterval(values, { seed: trial, resamples: 400, level: 0.9 });
    if (low <= 2 && 2 <= high) covered++;
  }
  // Binomial(300, 0.9) has standard deviation 5.2; the percentile interval is a little narrow at n = 40.
  t.ok(covered >= 249 && covered <= 288, `${covered} of 300`);
  const sample = [1, 2, 3, 4];
  const { value, standardError, count } = meanWithInterval(sample, { resamples: 4000 });
  t.equal(value, 2.5);
  t.equal(count, 4);
  t.ok(Math.abs(standardError - Math.sqrt(1.25 / 4)) < 0.02, `standard error ${standardError}`);
  t.throws(() => bootstrap(0, () => 0), /sample size/);
  t.throws(() => bootstrap(1, () => 0, { resamples: 1 }), /resamples/);
  for (const level of [0, 1]) t.throws(() => meanWithInterval([1], { level }), /level/);
  t.throws(() => meanWithInterval([1, Number.POSITIVE_INFINITY]), { code: 'numeric' });
});

t.test('an interval from two resamples, and quantiles between values', async (t) => {
  let calls = 0;
  const { value, low, high, standardError } = bootstrap(3, () => calls++, { resamples: 2, level: 0.5 });
  t.strictSame([value, low, high], [0, 1.25, 1.75], 'the estimate first, then resamples 1 and 2');
  t.ok(close(standardError, Math.SQRT1_2, 1e-15));
  t.strictSame(
    [0, 0.5, 0.75, 1].map((q) => quantile([10, 20, 40], q)),
    [10, 20, 30, 40],
  );
  t.equal(quantile([7], 0.3), 7);
  t.throws(() => quantile([], 0.5), /at least one number/);
});

t.test('CLIP scores', async (t) => {
  const a: Rows = { data: [3, 4, 1, 0], count: 2, width: 2 };
  const b: Rows = { data: [4, 3, -2, 0], count: 2, width: 2 };
  const [first, second] = clipScores(a, b);
  t.ok(close(first as number, 0.96, 1e-15));
  t.equal(second, -1);
  t.strictSame(
    [...clipScores(a, b, 'hessel')].map((x) => x.toFixed(6)),
    ['2.400000', '0.000000'],
  );
  t.throws(() => clipScores(a, { data: [1, 2], count: 1, width: 2 }), /2 rows/);
});
