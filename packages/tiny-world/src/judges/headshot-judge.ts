/** The attribute judge of headshots: one choice for every attribute. */
import {
  AGES,
  HAIR_COLORS,
  HAIR_LENGTHS,
  type HeadshotLabels,
  SKIN_TONES,
  STYLES,
} from '../world/attributes.js';
import { type Head, headsWidth, readVerdicts } from './heads.js';

const NO_YES = [false, true] as const;

/** Values of every attribute in class order; absence comes before presence. */
export const HEADSHOT_ATTRIBUTES = {
  skinTone: SKIN_TONES,
  hairColor: HAIR_COLORS,
  style: STYLES,
  eyeglasses: NO_YES,
  hairLength: HAIR_LENGTHS,
  hat: NO_YES,
  beard: NO_YES,
  smile: NO_YES,
  age: AGES,
} as const satisfies { [K in Exclude<keyof HeadshotLabels, 'kind'>]: readonly HeadshotLabels[K][] };

export type HeadshotAttribute = keyof typeof HEADSHOT_ATTRIBUTES;

const NAMES = Object.keys(HEADSHOT_ATTRIBUTES) as HeadshotAttribute[];

export const HEADSHOT_HEADS: readonly Head[] = NAMES.map((name) => ({
  name,
  size: HEADSHOT_ATTRIBUTES[name].length,
}));

/** Length of the judge's logit vector. */
export const HEADSHOT_OUTPUTS: number = headsWidth(HEADSHOT_HEADS);

/** The right answers for a headshot. */
export function headshotAnswers(labels: HeadshotLabels): number[] {
  return NAMES.map((name) => (HEADSHOT_ATTRIBUTES[name] as readonly unknown[]).indexOf(labels[name]));
}

/** The attributes of one picture with the probability of each, from one row of the judge's logits. */
export function readHeadshot(logits: Float32Array): {
  readonly labels: HeadshotLabels;
  readonly probabilities: Readonly<Record<HeadshotAttribute, number>>;
} {
  const verdicts = readVerdicts(HEADSHOT_HEADS, logits);
  const values = NAMES.map(
    (name, index) => [name, HEADSHOT_ATTRIBUTES[name][verdicts[index]!.choice]] as const,
  );
  const probabilities = NAMES.map((name, index) => [name, verdicts[index]!.probability] as const);
  return {
    labels: { kind: 'headshot', ...Object.fromEntries(values) } as HeadshotLabels,
    probabilities: Object.fromEntries(probabilities) as Record<HeadshotAttribute, number>,
  };
}
