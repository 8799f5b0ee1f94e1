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
  kid: { a: Spec; b: Spec; value: number }[];
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

t.test('kernel distance equals the formula on whole sets, and is seeded on subsets', async (t) => {
  for (const { a, b, value } of reference.kid) {
    const { value: found, std } = kernelDistance(features(...a), features(...b), { subsets: 2 });
    t.ok(close(found, value, 1e-9), `${found} is ${value}`);
    t.ok(std < 1e-9, 'every subset is the whole set');
  }
  const [x, y] = [features(200, 32, 3), features(200, 32, 4)];
  const options = { subsets: 5, subsetSize: 50, seed: 1 };
  t.strictSame(kernelDistance(x, y, options), kernelDistance(x, y, options));
  t.ok(kernelDistance(x, y, options).std > 0);
  t.not(kernelDistance(x, y, { ...options, seed: 2 }).value, kernelDistance(x, y, options).value);
  const pair = [1, 2].map((subsets) => kernelDistance(x, y, { ...options, subsets }));
  t.equal(pair[0]?.std, 0, 'one subset has no spread');
  // The first subset is common to both: two values a and b lie |a - b| / sqrt(2) from their mean.
  const [first, mean] = pair.map(({ value }) => value) as [number, number];
  t.ok(close(pair[1]?.std as number, Math.SQRT2 * Math.abs(first - mean), 1e-12), 'their standard deviation');
  t.throws(() => kernelDistance(x, features(5, 3, 0)), /width/);
  t.throws(() => kernelDistance(x, y, { subsets: 0 }), /subsets: expected a positive integer/);
  t.throws(() => kernelDistance(x, y, { subsetSize: 1 }), /subsetSize: expected an integer >= 2/);
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
