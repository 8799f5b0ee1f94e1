"""Makes packages/metrics/fixtures/reference.json with numpy and scipy.

Feature sets come from a formula that the test repeats: sin(17 i + 3 j + i j / 7 + seed) + j / 40, in double.
"""

import argparse
import json
import pathlib

import numpy as np
import scipy
from scipy import linalg, stats

ROOT = pathlib.Path(__file__).resolve().parents[2]


def features(count, width, seed):
    i, j = np.meshgrid(np.arange(count), np.arange(width), indexing="ij")
    return np.sin(17.0 * i + 3.0 * j + i * j / 7.0 + seed) + j / 40.0


def frechet(a, b):
    covariances = [np.cov(x, rowvar=False) for x in (a, b)]
    root = linalg.sqrtm(covariances[0] @ covariances[1])
    difference = a.mean(0) - b.mean(0)
    return float(difference @ difference + np.trace(covariances[0]) + np.trace(covariances[1]) - 2 * np.trace(root).real)


def whole_kid(a, b):
    """The unbiased statistic of whole sets; KID's where both have as many rows as its subsets."""
    def kernel(x, y):
        return (x @ y.T / x.shape[1] + 1) ** 3
    def within(x):
        k = kernel(x, x)
        return (k.sum() - np.trace(k)) / (len(x) * (len(x) - 1))
    return float(within(a) + within(b) - 2 * kernel(a, b).mean())


def kid_error(a, b):
    """Jackknife: the statistic is computed anew without each row."""
    without = [[whole_kid(np.delete(a, i, 0), b) for i in range(len(a))], [whole_kid(a, np.delete(b, i, 0)) for i in range(len(b))]]
    return float(np.sqrt(sum((len(v) - 1) * np.var(v) for v in without)))


def vendi(x):
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    values = np.linalg.eigvalsh(x @ x.T / len(x))
    values = values[values > 1e-15]
    return float(np.exp(-(values * np.log(values)).sum()))


def ranks():
    rng = np.random.default_rng(5)
    pairs = [(rng.normal(size=50), rng.normal(size=50)), (rng.integers(0, 5, 60), rng.integers(0, 4, 60)),
             (np.arange(10), np.arange(10)[::-1]), (rng.integers(0, 3, 7), rng.normal(size=7)), ([1, 2], [2, 2.5])]
    x = rng.normal(size=200)
    pairs.append((np.round(x, 1), np.round(x + 0.5 * rng.normal(size=200), 1)))
    return [dict(x=list(map(float, x)), y=list(map(float, y)), kendall=float(stats.kendalltau(x, y).statistic),
                 spearman=float(stats.spearmanr(x, y).statistic)) for x, y in pairs]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "packages/metrics/fixtures/reference.json")
    out = parser.parse_args().out
    # Full rank, fewer rows than columns, and equal sets.
    sets = [((60, 8, 0), (70, 8, 1)), ((9, 16, 0), (12, 16, 2)), ((200, 32, 3), (200, 32, 4)), ((30, 5, 1), (30, 5, 1))]
    fixture = dict(
        scipy=scipy.__version__,
        frechet=[dict(a=a, b=b, value=frechet(features(*a), features(*b))) for a, b in sets],
        kid=[dict(a=a, b=b, value=whole_kid(features(*a), features(*b)), error=kid_error(features(*a), features(*b))) for a, b in sets],
        vendi=[dict(a=a, value=vendi(features(*a))) for a in ((60, 8, 0), (9, 16, 0), (20, 20, 1))],
        ranks=ranks(),
        kl=[dict(counts=c, value=float(stats.entropy(c, np.ones(len(c))))) for c in ([5, 5], [9, 1, 0], [1, 2, 3, 4, 5, 6])],
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(fixture, separators=(",", ":")).replace("},{", "},\n{") + "\n")
    print(out.name, out.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
