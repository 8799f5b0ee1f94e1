/** The sample grids of the model card. */
import { COLORS, SHAPES, SKIN_TONES, TEXTURES } from '../world/attributes.js';
import { withArticle } from '../world/caption.js';
import { bindingPrompts, spatialPrompts } from './prompts.js';

export interface SampleGrid {
  /** File name without extension. */
  readonly name: string;
  readonly title: string;
  /** One prompt for each picture, row by row. */
  readonly prompts: readonly string[];
}

const CELLS = 16;

function grid(name: string, title: string, prompts: readonly string[]): SampleGrid {
  return {
    name,
    title,
    prompts: Array.from({ length: CELLS }, (_, index) => prompts[index % prompts.length] as string),
  };
}

/** Twelve grids of sixteen pictures: what the model is asked for in practice, none of it picked by hand. */
export function sampleGrids(seed: number): SampleGrid[] {
  const colored = COLORS.flatMap((color, index) =>
    [0, 3].map((shift) => withArticle(`${color} ${SHAPES[(index + shift) % 8]}`)),
  );
  const textured = TEXTURES.flatMap((texture, index) =>
    [0, 2, 4].map((shift) =>
      withArticle(`${texture} ${COLORS[(index + shift) % 8]} ${SHAPES[(index * 3 + shift) % 8]}`),
    ),
  );
  return [
    grid('colors', 'One object: all colors', colored),
    grid(
      'shapes',
      'One object: all shapes',
      SHAPES.flatMap((shape) => [withArticle(`blue ${shape}`), withArticle(`red ${shape}`)]),
    ),
    grid('textures', 'Textures', textured),
    grid(
      'pairs',
      'Two objects',
      bindingPrompts(seed, CELLS).map((prompt) => prompt.text),
    ),
    grid(
      'spatial',
      'Positions',
      spatialPrompts(seed, CELLS).map((prompt) => prompt.text),
    ),
    grid('counts', 'Counts', [
      'two red squares',
      'three yellow stars',
      'two blue hearts',
      'three green circles',
    ]),
    grid('actions', 'Settings', [
      'a red heart is floating in the sky',
      'a yellow star is shining in the dark',
      'a purple triangle is resting on the grass',
      'an orange circle on white paper',
    ]),
    grid('complex', 'Complex prompts', [
      'The striped red circle is on the left of the blue star.',
      'a red circle, a blue star and a green heart',
      'The metallic yellow heart is above the purple square.',
      'The green cross is near the dotted pink circle.',
    ]),
    grid('headshots', '"a headshot of a person"', ['a headshot of a person']),
    grid(
      'skin',
      'Named skin tones',
      SKIN_TONES.map((tone) => `a headshot of a person with ${tone} skin`),
    ),
    grid('attributes', 'Named attributes', [
      'a headshot of a person with eyeglasses',
      'a headshot of a smiling person with long blond hair',
      'a headshot of an old person',
      'a headshot of a person with a beard wearing a hat',
    ]),
    grid('without-eyeglasses', '"a headshot of a person without eyeglasses"', [
      'a headshot of a person without eyeglasses',
    ]),
  ];
}
