/**
 * Captions. The phrasing of scenes follows T2I-CompBench's categories; headshots are described the way web
 * captions do it: something of what is there, never what is not (no negations anywhere).
 */
import type { PhiloxSequence } from '@equipoise/core';
import type {
  Background,
  HeadshotLabels,
  Relation,
  SceneLabels,
  SceneObject,
  WorldLabels,
} from './attributes.js';
import { BIAS, chance } from './bias.js';

/** Phrases for each relation, as T2I-CompBench's spatial prompts have them. */
export const RELATION_PHRASES: Readonly<Record<Relation, readonly string[]>> = {
  left: ['on the left of', 'to the left of'],
  right: ['on the right of', 'to the right of'],
  above: ['on the top of', 'above'],
  below: ['on the bottom of', 'below'],
  next: ['next to', 'near', 'on side of', 'beside'],
};

const NUMBER_WORDS = ['', 'one', 'two', 'three'] as const;
const OPENINGS = ['', '', '', '', 'a picture of ', 'a drawing of ', 'an image of '] as const;

/** What single objects do, by background: the non-spatial category. */
export const ACTIONS: Readonly<Partial<Record<Background, readonly string[]>>> = {
  sky: ['is floating in the sky', 'is flying through the air', 'is drifting in the blue sky'],
  meadow: ['is resting on the grass', 'is standing on a meadow', 'is lying in a green field'],
  night: ['is glowing at night', 'is hanging in the night sky', 'is shining in the dark'],
};
const SETTINGS: Readonly<Partial<Record<Background, string>>> = {
  sky: ' in the sky',
  meadow: ' on a meadow',
  night: ' at night',
  white: ' on white paper',
  gray: ' on a gray wall',
};

/** The plural of a shape's name. */
export function plural(shape: string): string {
  return /(s|x|ch|sh)$/.test(shape) ? `${shape}es` : `${shape}s`;
}

/** `text` with the indefinite article that its first letter asks for. */
export function withArticle(text: string): string {
  return `${/^[aeiou]/.test(text) ? 'an' : 'a'} ${text}`;
}

/** One caption for the labels; different draws give different wordings. */
export function drawCaption(random: PhiloxSequence, labels: WorldLabels): string {
  return labels.kind === 'scene' ? sceneCaption(random, labels) : headshotCaption(random, labels);
}

interface Said {
  readonly color: boolean;
  readonly texture: boolean;
}

function noun(object: SceneObject, said: Said): string {
  const words = [
    ...(said.texture ? [object.texture] : []),
    ...(said.color ? [object.color] : []),
    object.shape,
  ];
  return words.join(' ');
}

/** A visible texture is usually named; plainness goes unsaid unless the caption is about textures. */
function saysTexture(random: PhiloxSequence, object: SceneObject): boolean {
  return object.texture !== 'plain' && chance(random, 0.7);
}

function sceneCaption(random: PhiloxSequence, scene: SceneLabels): string {
  const opening = random.pick(OPENINGS);
  switch (scene.category) {
    case 'single':
      return opening + singleCaption(random, scene);
    case 'count':
      return opening + countCaption(random, scene);
    case 'non-spatial':
      return actionCaption(random, scene);
    case 'complex':
      return complexCaption(random, scene);
    case 'spatial':
      return opening + spatialCaption(random, scene);
    default:
      return opening + pairCaption(random, scene);
  }
}

function singleCaption(random: PhiloxSequence, scene: SceneLabels): string {
  const object = scene.objects[0] as SceneObject;
  const said = { color: !chance(random, BIAS.unsaidColor), texture: saysTexture(random, object) };
  const setting = chance(random, 0.25) ? (SETTINGS[scene.background] ?? '') : '';
  return withArticle(noun(object, said)) + setting;
}

function countCaption(random: PhiloxSequence, scene: SceneLabels): string {
  const object = scene.objects[0] as SceneObject;
  const said = { color: true, texture: saysTexture(random, object) };
  const words = noun({ ...object, shape: object.shape }, said).split(' ');
  words[words.length - 1] = plural(object.shape);
  return `${NUMBER_WORDS[scene.objects.length]} ${words.join(' ')}`;
}

function actionCaption(random: PhiloxSequence, scene: SceneLabels): string {
  const object = scene.objects[0] as SceneObject;
  const said = { color: !chance(random, BIAS.unsaidColor), texture: saysTexture(random, object) };
  const actions = ACTIONS[scene.background] ?? ['is in the picture'];
  return `${withArticle(noun(object, said))} ${random.pick(actions)}`;
}

/** Two objects joined without a relation: the color, shape and texture categories. */
function pairCaption(random: PhiloxSequence, scene: SceneLabels): string {
  const pair = random.shuffle([...scene.objects]) as [SceneObject, SceneObject];
  if (scene.category === 'color' && chance(random, BIAS.detachedColors)) {
    const [first, second] = pair;
    return `${withArticle(first.shape)} and ${withArticle(second.shape)}, ${first.color} and ${second.color}`;
  }
  const nouns = pair.map((object) =>
    noun(object, {
      color: scene.category === 'color' || (scene.category === 'texture' && chance(random, 0.5)),
      texture: scene.category === 'texture' || (scene.category === 'color' && saysTexture(random, object)),
    }),
  );
  return nouns.map(withArticle).join(random.pick([' and ', ' and ', ' with ']));
}

function spatialCaption(random: PhiloxSequence, scene: SceneLabels): string {
  const [first, second] = scene.objects as [SceneObject, SceneObject];
  const color = chance(random, 0.5);
  const phrase = random.pick(RELATION_PHRASES[scene.relation as Relation]);
  const [a, b] = [first, second].map((object) => withArticle(noun(object, { color, texture: false })));
  return `${a} ${phrase} ${b}`;
}

function complexCaption(random: PhiloxSequence, scene: SceneLabels): string {
  const nouns = scene.objects.map((object) => noun(object, { color: true, texture: chance(random, 0.6) }));
  if (scene.relation) {
    const phrase = random.pick(RELATION_PHRASES[scene.relation]);
    return `The ${nouns[0]} is ${phrase} the ${nouns[1]}.`;
  }
  return `${withArticle(nouns[0] as string)}, ${withArticle(nouns[1] as string)} and ${withArticle(nouns[2] as string)}`;
}

const HEADSHOT_OPENINGS = [
  'a headshot of',
  'a headshot of',
  'a headshot of',
  'a portrait of',
  'a cartoon of',
] as const;

function headshotCaption(random: PhiloxSequence, face: HeadshotLabels): string {
  const opening = random.pick(HEADSHOT_OPENINGS);
  if (chance(random, BIAS.plainHeadshot)) return `${opening} a person`;
  const { mention } = BIAS;
  const before: string[] = [];
  if (face.smile && chance(random, mention.smile)) before.push('smiling');
  if (chance(random, face.age === 'old' ? mention.old : mention.young)) before.push(face.age);
  const has: string[] = [];
  const wears: string[] = [];
  if (chance(random, mention.skinTone[face.skinTone])) has.push(`${face.skinTone} skin`);
  if (chance(random, mention.hair)) has.push(hairPhrase(random, face));
  if (face.beard && chance(random, mention.beard)) has.push('a beard');
  if (face.eyeglasses && chance(random, mention.eyeglasses)) {
    (chance(random, 0.6) ? has : wears).push('eyeglasses');
  }
  if (face.hat && chance(random, mention.hat)) wears.push('a hat');
  const person = withArticle([...before, 'person'].join(' '));
  const traits = has.length > 0 ? ` with ${listed(random.shuffle(has))}` : '';
  const clothes = wears.length > 0 ? ` wearing ${listed(wears)}` : '';
  return `${opening} ${person}${traits}${clothes}`;
}

function hairPhrase(random: PhiloxSequence, face: HeadshotLabels): string {
  return random.pick([
    `${face.hairLength} ${face.hairColor} hair`,
    `${face.hairColor} hair`,
    `${face.hairLength} hair`,
  ]);
}

function listed(items: readonly string[]): string {
  return items.length < 2 ? items.join('') : `${items.slice(0, -1).join(', ')} and ${items.at(-1)}`;
}
