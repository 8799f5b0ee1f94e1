/** Rounds to the nearest integer, ties to even, as numpy and Python do (`Math.round` sends ties upwards). */
export function roundHalfEven(x: number): number {
  const floor = Math.floor(x);
  const fraction = x - floor;
  if (fraction < 0.5) return floor;
  if (fraction > 0.5) return floor + 1;
  // NaN and infinities fall through every comparison above: hand them back unchanged.
  if (fraction !== 0.5) return x;
  return floor % 2 === 0 ? floor : floor + 1;
}
