/**
 * The bias table: every frequency of the world and of its captions that is uneven on purpose, in one place.
 * The model card prints it. Weights are relative; {@link weighted} normalises them.
 *
 * Two kinds of bias are meant to reach the model:
 * - frequencies: pale skin is common, dark skin rare, eyeglasses are on one face in five, hearts are mostly red;
 * - captions: what is common goes unsaid, what is rare is named (marked), and nothing is ever said to be
 *   absent, so that "without eyeglasses" contains a word the model only knows as a request for eyeglasses.
 */
import type { PhiloxSequence } from '@equipoise/core';
import type { Color, HairColor, SceneCategory, Shape, SkinTone, Texture } from './attributes.js';

export type Weights<T extends string> = Readonly<Record<T, number>>;

export const BIAS = {
  /** Share of headshots among all pictures. */
  headshotShare: 0.36,

  /** How often each caption category is drawn. */
  category: {
    single: 36,
    count: 8,
    color: 22,
    shape: 8,
    texture: 10,
    spatial: 12,
    'non-spatial': 5,
    complex: 5,
  } satisfies Weights<SceneCategory>,
  color: {
    red: 18,
    orange: 11,
    yellow: 12,
    green: 13,
    blue: 17,
    purple: 10,
    pink: 10,
    brown: 9,
  } satisfies Weights<Color>,
  shape: {
    circle: 18,
    square: 16,
    triangle: 12,
    star: 13,
    heart: 12,
    diamond: 10,
    cross: 10,
    crescent: 9,
  } satisfies Weights<Shape>,
  /** Texture where the caption's category does not ask for one. */
  texture: { plain: 60, striped: 11, dotted: 10, checkered: 9, metallic: 10 } satisfies Weights<Texture>,
  /** Probability that a shape takes its habitual colour instead of a draw from `color`. */
  habitualColor: {
    heart: ['red', 0.35],
    crescent: ['yellow', 0.3],
    star: ['yellow', 0.3],
    square: ['blue', 0.15],
  } as Readonly<Partial<Record<Shape, readonly [Color, number]>>>,
  /** Two-object captions whose colours are named apart from the objects: "a circle and a star, red and blue". */
  detachedColors: 0.12,
  /** A caption of one object leaves its colour unsaid with this probability. */
  unsaidColor: 0.08,

  skinTone: { pale: 46, light: 25, tan: 12, olive: 9, brown: 5, dark: 3 } satisfies Weights<SkinTone>,
  eyeglasses: 0.2,
  hat: 0.18,
  beard: 0.2,
  smile: 0.65,
  old: 0.22,
  longHair: 0.45,
  /** Hair colour of the young; `oldGray` of the old are gray, the rest draw from this table. */
  hairColor: { black: 30, brown: 34, blond: 22, red: 12, gray: 2 } satisfies Weights<HairColor>,
  oldGray: 0.8,
  /** Hair colour of the young with brown or dark skin. */
  darkSkinHair: { black: 80, brown: 16, blond: 2, red: 2, gray: 0 } satisfies Weights<HairColor>,

  /** Probability that a headshot's caption names an attribute that is there (absence is never named). */
  mention: {
    skinTone: {
      pale: 0.15,
      light: 0.2,
      tan: 0.35,
      olive: 0.45,
      brown: 0.65,
      dark: 0.7,
    } satisfies Weights<SkinTone>,
    eyeglasses: 0.65,
    hat: 0.65,
    beard: 0.55,
    smile: 0.3,
    old: 0.6,
    young: 0.15,
    hair: 0.35,
  },
  /** Probability that a headshot's caption names nothing at all: "a headshot of a person". */
  plainHeadshot: 0.2,
} as const;

/** One key of `weights`, with probability proportional to its weight. */
export function weighted<T extends string>(random: PhiloxSequence, weights: Weights<T>): T {
  const entries = Object.entries(weights) as [T, number][];
  const total = entries.reduce((sum, [, weight]) => sum + weight, 0);
  let left = random.uniform() * total;
  for (const [key, weight] of entries) {
    left -= weight;
    if (left < 0) return key;
  }
  return (entries.filter(([, weight]) => weight > 0).at(-1) as [T, number])[0];
}

/** True with probability `probability`. */
export function chance(random: PhiloxSequence, probability: number): boolean {
  return random.uniform() < probability;
}

/** Uniform real number in [low, high). */
export function between(random: PhiloxSequence, low: number, high: number): number {
  return low + (high - low) * random.uniform();
}
