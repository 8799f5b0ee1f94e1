/** Cosine scores and the Vendi score. */
import { invalid } from '@equipoise/core';
import { checkRows, normalizeRows, type Rows, symmetricEigen, toMatrix } from './matrix.js';

/**
 * Cosine similarity of row i of one set with row i of the other.
 */
export function rowCosines(a: Rows, b: Rows): Float64Array {
  checkRows('first features', a);
  checkRows('second features', b);
  if (a.width !== b.width) throw invalid('features', `width ${a.width} in both sets`, b.width);
  if (a.count !== b.count) throw invalid('features', `${a.count} rows in both sets`, b.count);
  const first = normalizeRows('first features', a);
  const second = normalizeRows('second features', b);
  return Float64Array.from({ length: a.count }, (_, i) => {
    let dot = 0;
    for (let k = i * a.width; k < (i + 1) * a.width; k++)
      dot += (first.data[k] as number) * (second.data[k] as number);
    return dot;
  });
}

/** How CLIP scores are reported: the cosine itself, or Hessel et al. (2021): 2.5 max(cosine, 0). */
export type ClipScoreScale = 'cosine' | 'hessel';

/** CLIPScore of image and text features of the same pairs. */
export function clipScores(images: Rows, texts: Rows, scale: ClipScoreScale = 'cosine'): Float64Array {
  const cosines = rowCosines(images, texts);
  return scale === 'cosine' ? cosines : cosines.map((value) => 2.5 * Math.max(value, 0));
}

/**
 * Vendi score (Friedman and Dieng 2023): the exponential of the entropy of the eigenvalues of K / n, K
 * the cosine similarities of the rows. 1 when all are alike, n when all are orthogonal. Uses the smaller
 * of the n x n and d x d matrices, which share their non-zero eigenvalues.
 */
export function vendiScore(rows: Rows): number {
  checkRows('features', rows);
  const matrix = toMatrix(normalizeRows('features', rows));
  const transposed = matrix.transpose();
  const gram = rows.count > rows.width ? transposed.mmul(matrix) : matrix.mmul(transposed);
  const values = symmetricEigen(gram.div(rows.count)).realEigenvalues;
  const entropy = values.reduce((sum, value) => (value > 0 ? sum - value * Math.log(value) : sum), 0);
  return Math.exp(entropy);
}
