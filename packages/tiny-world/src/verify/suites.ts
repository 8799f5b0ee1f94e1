/** Prompts by category, as T2I-CompBench has them, with what must be in the picture, and one verdict for each picture. */
import { invalid, PhiloxSequence, streamId } from '@equipoise/core';
import type { BackgroundJudge } from '../judges/background.js';
import type { JudgeNetwork } from '../judges/network.js';
import {
  type Background,
  COLORS,
  RELATIONS,
  type SceneCategory,
  SHAPES,
  TEXTURES,
} from '../world/attributes.js';
import { ACTIONS, RELATION_PHRASES, withArticle } from '../world/caption.js';
import { IMAGE_BYTES } from '../world/render.js';
import { drawSample, type WorldSample } from '../world/sample.js';
import type { ScenePrompt, Wanted } from './prompts.js';
import { findScenes, type SceneFinding } from './scenes.js';

/** The categories; `single`, one object with its color, is easier than any of T2I-CompBench's. */
export const SUITE_CATEGORIES = [
  'single',
  'color',
  'shape',
  'texture',
  'spatial',
  'non-spatial',
  'complex',
] as const satisfies readonly SceneCategory[];
export type SuiteCategory = (typeof SUITE_CATEGORIES)[number];

export interface SuitePrompt extends ScenePrompt {
  readonly category: SuiteCategory;
  readonly background?: Background;
}

/**
 * `count` different prompts of a category, drawn by seed; a longer list begins with the shorter ones.
 *
 * @throws EquipoiseError `invalid` when the category has fewer
 */
export function suitePrompts(category: SuiteCategory, seed: number, count: number): SuitePrompt[] {
  const random = new PhiloxSequence(seed, streamId('tiny-world', 'suite', category));
  const found = new Map<string, SuitePrompt>();
  for (let attempt = 0; found.size < count && attempt < 100 * count; attempt++) {
    const prompt = DRAW[category](random);
    found.set(prompt.text, { ...prompt, category });
  }
  if (found.size < count)
    throw invalid(`prompts of category ${category}`, `at most the ${found.size} there are`, count);
  return [...found.values()];
}

const say = ({ texture, color, shape }: Wanted): string => [texture, color, shape].filter(Boolean).join(' ');

function two<T>(random: PhiloxSequence, items: readonly T[]): [T, T] {
  const [first, second] = random.shuffle([...items]);
  return [first as T, second as T];
}

type Draw = (random: PhiloxSequence) => Omit<SuitePrompt, 'category'>;

const pairOf = (random: PhiloxSequence, also: (i: number) => Partial<Wanted>): [Wanted, Wanted] =>
  two(random, SHAPES).map((shape, i) => ({ shape, ...also(i) })) as [Wanted, Wanted];
const joined = (objects: readonly Wanted[]): Omit<SuitePrompt, 'category'> => ({
  text: objects.map((object) => withArticle(say(object))).join(' and '),
  objects,
});

const DRAW: Readonly<Record<SuiteCategory, Draw>> = {
  single: (random) => joined([{ color: random.pick(COLORS), shape: random.pick(SHAPES) }]),
  color: (random) => {
    const colors = two(random, COLORS);
    return joined(pairOf(random, (i) => ({ color: colors[i] as (typeof COLORS)[number] })));
  },
  shape: (random) => joined(pairOf(random, () => ({}))),
  texture: (random) =>
    joined([{ texture: random.pick(TEXTURES), color: random.pick(COLORS), shape: random.pick(SHAPES) }]),
  spatial: (random) => {
    const [first, second] = pairOf(random, () => ({}));
    const relation = random.pick(RELATIONS);
    const phrase = random.pick(RELATION_PHRASES[relation]);
    return {
      text: `${withArticle(say(first))} ${phrase} ${withArticle(say(second))}`,
      objects: [first, second],
      relation,
    };
  },
  'non-spatial': (random) => {
    const wanted = { color: random.pick(COLORS), shape: random.pick(SHAPES) };
    const background = random.pick(Object.keys(ACTIONS) as Background[]);
    const action = random.pick(ACTIONS[background] as readonly string[]);
    return { text: `${withArticle(say(wanted))} ${action}`, objects: [wanted], background };
  },
  complex: (random) => {
    const [colors, texture] = [two(random, COLORS), random.pick(TEXTURES.slice(1))];
    const [first, second] = pairOf(random, (i) => ({
      color: colors[i] as (typeof COLORS)[number],
      ...(i === 0 && { texture }),
    }));
    const relation = random.pick(RELATIONS);
    const phrase = random.pick(RELATION_PHRASES[relation]);
    return { text: `The ${say(first)} is ${phrase} the ${say(second)}.`, objects: [first, second], relation };
  },
};

/** Whether each picture shows what its category asks for. */
export async function judgeSuite(
  judges: { readonly scene: JudgeNetwork; readonly background: BackgroundJudge },
  prompts: readonly SuitePrompt[],
  images: Uint8Array,
): Promise<boolean[]> {
  const findings = await findScenes(judges.scene, prompts, images);
  return prompts.map((prompt, i) => {
    const finding = findings[i] as SceneFinding;
    const picture = images.subarray(i * IMAGE_BYTES, (i + 1) * IMAGE_BYTES);
    return verdict(prompt, finding, judges.background.name(picture));
  });
}

function verdict({ category, background }: SuitePrompt, finding: SceneFinding, seen: Background): boolean {
  switch (category) {
    case 'shape':
      return finding.shapes;
    case 'texture':
      return finding.textures;
    case 'spatial':
      return finding.shapes && finding.relation === true;
    case 'non-spatial':
      return finding.bound && seen === background;
    case 'complex':
      return finding.bound && finding.relation === true;
    default:
      return finding.bound;
  }
}

/** A drawn picture of a prompt: what a real, correctly captioned image is in this world. */
export function drawPrompt(
  { category, objects, relation, background }: SuitePrompt,
  seed: number,
  index: number,
): WorldSample {
  // One textured object is a scene of one; the world's own texture scenes have two.
  const kind = objects.length === 1 && category === 'texture' ? 'single' : category;
  return drawSample(seed, 'reference', index, {
    kind: 'scene',
    scene: {
      category: kind,
      objects,
      ...(relation !== undefined && { relation }),
      ...(background !== undefined && { background }),
    },
  });
}
