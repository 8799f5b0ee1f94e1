/**
 * Captions that are wrong in one word. In a small batch nearly every picture can be told from the others by its colors
 * alone; a wrong caption beside each right one makes the towers look at shapes and textures too (Yuksekgonul et al., "When
 * and why vision-language models behave like bags-of-words", ICLR 2023).
 */
import type { PhiloxSequence } from '@equipoise/core';
import { COLORS, SHAPES, TEXTURES } from '../world/attributes.js';
import { plural } from '../world/caption.js';

/** Words that exclude each other on one object. Shapes come twice as often: they are the hardest to see. */
const FAMILIES: readonly (readonly string[])[] = [SHAPES, SHAPES, SHAPES.map(plural), COLORS, TEXTURES];

/** The caption with one shape, color or texture replaced by another; a caption without any comes back as it is. */
export function wrongCaption(random: PhiloxSequence, caption: string): string {
  const words = caption.split(' ');
  const bare = words.map((word) => word.replace(/[.,]$/, ''));
  const places = FAMILIES.flatMap((family) =>
    bare.flatMap((word, index) => (family.includes(word) ? [{ family, index, word }] : [])),
  );
  if (places.length === 0) return caption;
  const { family, index, word } = random.pick(places);
  const other = random.pick(family.filter((one) => !bare.includes(one)));
  words[index] = (words[index] as string).replace(word, other);
  return words.join(' ');
}
