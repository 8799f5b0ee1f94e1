/** The Frechet distance between two sets of feature vectors (FID). */
import { invalid } from '@equipoise/core';
import { Matrix } from 'ml-matrix';
import { checkRows, type Rows, symmetricEigen, toMatrix } from './matrix.js';

/** Mean and sample covariance (divided by n - 1) of feature vectors. */
export interface FeatureStatistics {
  readonly mean: Float64Array;
  /** Row-major, width x width. */
  readonly covariance: Float64Array;
  readonly width: number;
  readonly count: number;
}

/** At least two rows. */
export function featureStatistics(rows: Rows): FeatureStatistics {
  checkRows('features', rows);
  const { data, count, width } = rows;
  if (count < 2) throw invalid('features: number of rows', 'at least 2, to have a covariance', count);
  const mean = new Float64Array(width);
  for (let i = 0; i < count * width; i++) mean[i % width] = (mean[i % width] as number) + (data[i] as number);
  for (let j = 0; j < width; j++) mean[j] = (mean[j] as number) / count;
  const covariance = new Float64Array(width * width);
  const centered = new Float64Array(width);
  for (let i = 0; i < count; i++) {
    for (let j = 0; j < width; j++) centered[j] = (data[i * width + j] as number) - (mean[j] as number);
    for (let j = 0; j < width; j++) {
      const value = centered[j] as number;
      const row = j * width;
      for (let k = j; k < width; k++)
        covariance[row + k] = (covariance[row + k] as number) + value * (centered[k] as number);
    }
  }
  for (let j = 0; j < width; j++) {
    for (let k = j; k < width; k++) {
      const value = (covariance[j * width + k] as number) / (count - 1);
      covariance[j * width + k] = value;
      covariance[k * width + j] = value;
    }
  }
  return { mean, covariance, width, count };
}

/** The symmetric square root of a positive semi-definite matrix; round-off below zero counts as zero. */
function squareRoot(matrix: Matrix): Matrix {
  const { eigenvectorMatrix: vectors, realEigenvalues: values } = symmetricEigen(matrix);
  const roots = values.map((value) => Math.sqrt(Math.max(value, 0)));
  return vectors.clone().mulRowVector(roots).mmul(vectors.transpose());
}

/**
 * Squared Frechet distance of two Gaussians, |m1 - m2|^2 + Tr(C1 + C2 - 2 (C1 C2)^(1/2)): FID when the
 * features are Inception's (Heusel et al. 2017). The trace of the root is the sum of the square roots of
 * the eigenvalues of C1^(1/2) C2 C1^(1/2), which is symmetric: no complex round-off to discard. Never below 0, where
 * rounding would lead for equal sets.
 */
export function frechetDistance(a: FeatureStatistics, b: FeatureStatistics): number {
  if (a.width !== b.width) throw invalid('features', `width ${a.width} in both sets`, b.width);
  const { width } = a;
  const [first, second] = [a, b].map((s) => toMatrix({ data: s.covariance, count: width, width })) as [
    Matrix,
    Matrix,
  ];
  const root = squareRoot(first);
  const product = root.mmul(second).mmul(root);
  // Exactly symmetric in theory; averaging removes what rounding left.
  const symmetric = Matrix.add(product, product.transpose()).mul(0.5);
  const values = symmetricEigen(symmetric).realEigenvalues;
  const traceOfRoot = values.reduce((sum, value) => sum + Math.sqrt(Math.max(value, 0)), 0);
  let squared = 0;
  for (let i = 0; i < width; i++) squared += ((a.mean[i] as number) - (b.mean[i] as number)) ** 2;
  return Math.max(squared + first.trace() + second.trace() - 2 * traceOfRoot, 0);
}
