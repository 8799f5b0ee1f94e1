/** Quantiles of Student's t distribution. */
import { invalid } from '@equipoise/core';

/** Two-sided tail probability of |T| > t for whole degrees of freedom (Abramowitz and Stegun, 26.7.3 and 26.7.4). */
function tail(t: number, freedom: number): number {
  const angle = Math.atan(t / Math.sqrt(freedom));
  const [sin, cos] = [Math.sin(angle), Math.cos(angle)];
  let [term, sum] = [1, 0];
  if (freedom % 2 === 0) {
    for (let k = 0; k < freedom / 2; k++) {
      sum += term;
      term *= (cos * cos * (2 * k + 1)) / (2 * k + 2);
    }
    return 1 - sin * sum;
  }
  for (let k = 0; k < (freedom - 1) / 2; k++) {
    sum += term;
    term *= (cos * cos * (2 * k + 2)) / (2 * k + 3);
  }
  return 1 - (2 / Math.PI) * (angle + (freedom === 1 ? 0 : sin * cos * sum));
}

/** The value below which a share `p` of the distribution lies, for p in [0.5, 1); by bisection. */
export function studentQuantile(p: number, freedom: number): number {
  if (!(p >= 0.5 && p < 1)) throw invalid('p', 'a number from 0.5 to below 1', p);
  if (!(Number.isInteger(freedom) && freedom >= 1))
    throw invalid('freedom', 'a positive whole number', freedom);
  let [low, high] = [0, 1];
  while (1 - tail(high, freedom) / 2 < p) high *= 2;
  for (let i = 0; i < 100 && high - low > 1e-12 * high; i++) {
    const middle = (low + high) / 2;
    if (1 - tail(middle, freedom) / 2 < p) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
}
