/** What the weights must reach, and whether a new measurement agrees with the one in the model card. */
import type { Measurements } from './measure.js';

export interface Requirement {
  readonly name: string;
  readonly least: number;
  readonly most: number;
  readonly actual: number;
  readonly met: boolean;
}

function requirement(
  name: string,
  actual: number,
  least: number,
  most = Number.POSITIVE_INFINITY,
): Requirement {
  return { name, least, most, actual, met: actual >= least && actual <= most };
}

/** The requirements on the shipped weights. */
export function requirements({ scores, headshots }: Measurements): Requirement[] {
  const score = (name: string): number => scores[name] ?? Number.NaN;
  // The drawing style is judged for the record only: it is no attribute of the person.
  const judged = Object.keys(scores).filter((name) => /^judge (scene|headshot) (?!style)/.test(name));
  return [
    ...judged.map((name) => requirement(name, score(name), 0.99)),
    requirement('single object, color and shape', score('single object, color and shape'), 0.9),
    requirement('two objects, color binding', score('two objects, color binding'), 0.35, 0.75),
    requirement('skin tone, KL to uniform', headshots.skinTone?.klToUniform ?? Number.NaN, 0.3),
    requirement('eyeglasses, KL to uniform', headshots.eyeglasses?.klToUniform ?? Number.NaN, 0.1),
  ];
}

/** Scores that are not shares of `count` pictures, with the change that still counts as equal. */
const ABSOLUTE_TOLERANCE: Readonly<Record<string, number>> = {
  'vae psnr': 0.1,
  'judge calibration error': 0.05,
};

/**
 * Scores that differ between two measurements by more than chance allows. Pictures are seeded, so that on one
 * engine nothing differs; between engines a rounding can turn single pictures, hence three standard deviations
 * of a share of `count` pictures, and at least three pictures.
 */
export function differences(before: Measurements, after: Measurements): string[] {
  const count = after.settings.count;
  return Object.entries(before.scores).flatMap(([name, value]) => {
    const actual = after.scores[name];
    const noise = 3 * Math.sqrt((Math.max(0.01, value) * Math.max(0.01, 1 - value)) / count);
    const tolerance = ABSOLUTE_TOLERANCE[name] ?? Math.max(3 / count, noise);
    if (actual !== undefined && Math.abs(actual - value) <= tolerance) return [];
    return [
      `${name}: expected ${value.toFixed(4)} ± ${tolerance.toFixed(4)}, got ${actual?.toFixed(4) ?? 'nothing'}`,
    ];
  });
}
