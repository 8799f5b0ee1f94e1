/** Evaluation prompts with what must be in the picture, drawn by seed. */
import { PhiloxSequence, streamId } from '@equipoise/core';
import {
  COLORS,
  type Color,
  RELATIONS,
  type Relation,
  SHAPES,
  type Shape,
  TEXTURES,
  type Texture,
} from '../world/attributes.js';
import { RELATION_PHRASES, withArticle } from '../world/caption.js';

/** An object a prompt asks for; what it leaves open is absent. */
export interface Wanted {
  readonly shape: Shape;
  readonly color?: Color;
  readonly texture?: Texture;
}

export interface ScenePrompt {
  readonly text: string;
  readonly objects: readonly Wanted[];
  readonly relation?: Relation;
}

function phrase({ texture, color, shape }: Wanted): string {
  return withArticle([texture, color, shape].filter(Boolean).join(' '));
}

function sequence(seed: number, name: string): PhiloxSequence {
  return new PhiloxSequence(seed, streamId('tiny-world', 'prompts', name));
}

/** Two different values. */
function pairOf<T>(random: PhiloxSequence, items: readonly T[]): [T, T] {
  const [first, second] = random.shuffle([...items]);
  return [first as T, second as T];
}

/** "a red circle": all colours with all shapes, in rounds. */
export function singlePrompts(count: number): ScenePrompt[] {
  return Array.from({ length: count }, (_, index) => {
    const wanted = { color: COLORS[index % 8]!, shape: SHAPES[Math.floor(index / 8) % 8]! };
    return { text: phrase(wanted), objects: [wanted] };
  });
}

/** "a red circle and a blue square": different colours, different shapes. */
export function bindingPrompts(seed: number, count: number): ScenePrompt[] {
  const random = sequence(seed, 'binding');
  return Array.from({ length: count }, () => {
    const [colors, shapes] = [pairOf(random, COLORS), pairOf(random, SHAPES)];
    const objects = shapes.map((shape, index) => ({ shape, color: colors[index]! }));
    return { text: objects.map(phrase).join(' and '), objects };
  });
}

/** "a striped red circle". */
export function texturePrompts(seed: number, count: number): ScenePrompt[] {
  const random = sequence(seed, 'texture');
  return Array.from({ length: count }, (_, index) => {
    const wanted = {
      texture: TEXTURES[index % TEXTURES.length]!,
      color: random.pick(COLORS),
      shape: random.pick(SHAPES),
    };
    return { text: phrase(wanted), objects: [wanted] };
  });
}

/** "a circle on the left of a square". */
export function spatialPrompts(seed: number, count: number): ScenePrompt[] {
  const random = sequence(seed, 'spatial');
  return Array.from({ length: count }, (_, index) => {
    const relation = RELATIONS[index % RELATIONS.length]!;
    const [first, second] = pairOf(random, SHAPES).map((shape) => ({ shape }));
    const text = `${phrase(first!)} ${random.pick(RELATION_PHRASES[relation])} ${phrase(second!)}`;
    return { text, objects: [first!, second!], relation };
  });
}
