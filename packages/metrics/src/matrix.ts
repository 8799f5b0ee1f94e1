/** Rows of equal length in double precision: the shape every metric over features takes. */
import { invalid, prose } from '@equipoise/core';
import { EigenvalueDecomposition, Matrix } from 'ml-matrix';

/** n feature vectors of d numbers each; n rows, row-major. */
export interface Rows {
  readonly data: ArrayLike<number>;
  readonly count: number;
  readonly width: number;
}

/** Checks sizes and that every number is finite. */
export function checkRows(name: string, rows: Rows, minimum = 1): void {
  const { data, count, width } = rows;
  if (!Number.isInteger(width) || width < 1) throw invalid(`${name}: width`, 'a positive integer', width);
  if (!Number.isInteger(count) || count < minimum) {
    throw invalid(`${name}: number of rows`, `at least ${minimum}`, count);
  }
  if (data.length !== count * width) {
    throw invalid(name, `${count} x ${width} = ${count * width} numbers`, prose(`${data.length} numbers`));
  }
  checkFinite(name, data);
}

/** Refuses NaN and infinities, which would otherwise pass through every comparison. */
export function checkFinite(name: string, data: ArrayLike<number>): void {
  for (let i = 0; i < data.length; i++) {
    if (!Number.isFinite(data[i])) {
      throw invalid(`${name}[${i}]`, 'a finite number', data[i], { code: 'numeric' });
    }
  }
}

export function toMatrix(rows: Rows): Matrix {
  const { data, count, width } = rows;
  const matrix = Matrix.zeros(count, width);
  for (let i = 0; i < count; i++) {
    for (let j = 0; j < width; j++) matrix.set(i, j, data[i * width + j] as number);
  }
  return matrix;
}

/** Rows scaled to unit length. A zero row is refused: it has no direction. */
export function normalizeRows(name: string, rows: Rows): Rows {
  const { count, width } = rows;
  const data = Float64Array.from(rows.data);
  for (let i = 0; i < count; i++) {
    const row = data.subarray(i * width, (i + 1) * width);
    const largest = row.reduce((max, value) => Math.max(max, Math.abs(value)), 0);
    if (largest === 0) throw invalid(`${name}: row ${i}`, 'a vector that is not zero', prose('zeros'));
    // Scaled, so that squares neither overflow nor vanish.
    const norm = Math.sqrt(row.reduce((sum, value) => sum + (value / largest) ** 2, 0));
    for (let j = 0; j < width; j++) row[j] = (row[j] as number) / largest / norm;
  }
  return { data, count, width };
}

/** Eigenvalues (and vectors) of a symmetric matrix. */
export function symmetricEigen(matrix: Matrix): EigenvalueDecomposition {
  return new EigenvalueDecomposition(matrix, { assumeSymmetric: true });
}
