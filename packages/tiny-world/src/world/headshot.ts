/** Draws the attributes of cartoon headshots; they are rendered in headshot-svg.ts. */
import type { PhiloxSequence } from '@equipoise/core';
import type { HairColor, HeadshotLabels, SkinTone } from './attributes.js';
import { STYLES } from './attributes.js';
import { BIAS, chance, weighted } from './bias.js';

/** Attributes a headshot must have; what is left out is drawn from the bias table. */
export type HeadshotRequest = Partial<Omit<HeadshotLabels, 'kind'>>;

/** Draws one headshot's attributes. */
export function drawHeadshot(random: PhiloxSequence, request: HeadshotRequest = {}): HeadshotLabels {
  const skinTone = request.skinTone ?? weighted(random, BIAS.skinTone);
  const age = request.age ?? (chance(random, BIAS.old) ? 'old' : 'young');
  const eyeglasses = chance(random, BIAS.eyeglasses);
  const longHair = chance(random, BIAS.longHair);
  const hat = chance(random, BIAS.hat);
  const beard = chance(random, BIAS.beard);
  const smile = chance(random, BIAS.smile);
  return {
    kind: 'headshot',
    skinTone,
    age,
    eyeglasses: request.eyeglasses ?? eyeglasses,
    hairLength: request.hairLength ?? (longHair ? 'long' : 'short'),
    hairColor: request.hairColor ?? drawHairColor(random, skinTone, age === 'old'),
    hat: request.hat ?? hat,
    beard: request.beard ?? beard,
    smile: request.smile ?? smile,
    style: request.style ?? random.pick(STYLES),
  };
}

function drawHairColor(random: PhiloxSequence, skinTone: SkinTone, old: boolean): HairColor {
  if (old && chance(random, BIAS.oldGray)) return 'gray';
  return weighted(random, skinTone === 'brown' || skinTone === 'dark' ? BIAS.darkSkinHair : BIAS.hairColor);
}
