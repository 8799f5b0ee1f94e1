/** Draws the contents of compositional scenes: what there is, where, and how it looks. */
import type { PhiloxSequence } from '@equipoise/core';
import type {
  Background,
  Color,
  Relation,
  SceneCategory,
  SceneLabels,
  SceneObject,
  Shape,
  Texture,
} from './attributes.js';
import { BACKGROUNDS, COLORS, IMAGE_SIZE, RELATIONS, SHAPES, TEXTURES } from './attributes.js';
import { BIAS, between, chance, weighted } from './bias.js';

type Look = Pick<SceneObject, 'color' | 'shape' | 'texture'>;
type Place = Pick<SceneObject, 'x' | 'y' | 'radius'>;

/** What a scene must contain; whatever is left out is drawn from the bias table. */
export interface SceneRequest {
  readonly category?: SceneCategory;
  readonly background?: Background;
  readonly objects?: readonly Partial<Look>[];
  readonly relation?: Relation;
}

/** Range of radii, in pixels, of scenes with one, two and three objects. */
const RADII: readonly (readonly [number, number])[] = [
  [14, 19],
  [10.5, 13.5],
  [8.8, 10.5],
];
const MARGIN = 2;

/** Draws one scene. `request` fixes parts of it (evaluation prompts, references); the rest is biased chance. */
export function drawScene(random: PhiloxSequence, request: SceneRequest = {}): SceneLabels {
  const category = request.category ?? weighted(random, BIAS.category);
  const background = request.background ?? drawBackground(random, category);
  const looks = drawLooks(random, category, request);
  const two = looks.length === 2;
  const relation = two ? (request.relation ?? drawRelation(random, category)) : null;
  const places = two ? placePair(random, relation as Relation) : placeApart(random, looks.length);
  return {
    kind: 'scene',
    category,
    background,
    objects: looks.map((look, index) => ({ ...look, ...(places[index] as Place) })),
    relation,
  };
}

function drawBackground(random: PhiloxSequence, category: SceneCategory): Background {
  if (category === 'non-spatial') return random.pick(['sky', 'meadow', 'night'] as const);
  return random.pick(BACKGROUNDS);
}

function drawRelation(random: PhiloxSequence, category: SceneCategory): Relation {
  return category === 'spatial' || category === 'complex'
    ? random.pick(RELATIONS)
    : random.pick(['left', 'right', 'next']);
}

function drawColor(random: PhiloxSequence, shape: Shape): Color {
  const habit = BIAS.habitualColor[shape];
  return habit && chance(random, habit[1]) ? habit[0] : weighted(random, BIAS.color);
}

function drawLooks(random: PhiloxSequence, category: SceneCategory, request: SceneRequest): Look[] {
  const wanted: readonly Partial<Look>[] =
    request.objects ?? Array.from({ length: drawCount(random, category) }, () => ({}));
  const looks: Look[] = [];
  for (const fixed of wanted) {
    if (category === 'count' && looks[0]) {
      looks.push(looks[0]);
      continue;
    }
    const shape =
      fixed.shape ??
      other(
        looks.map((look) => look.shape),
        SHAPES,
        () => weighted(random, BIAS.shape),
      );
    const color =
      fixed.color ??
      other(
        looks.map((look) => look.color),
        COLORS,
        () => drawColor(random, shape),
      );
    looks.push({ shape, color, texture: fixed.texture ?? drawTexture(random, category, looks) });
  }
  return looks;
}

function drawCount(random: PhiloxSequence, category: SceneCategory): number {
  if (category === 'single' || category === 'non-spatial') return 1;
  if (category === 'count') return 2 + random.int(2);
  if (category === 'complex') return 2 + random.int(2);
  return 2;
}

function drawTexture(random: PhiloxSequence, category: SceneCategory, others: readonly Look[]): Texture {
  if (category === 'texture') {
    return other(
      others.map((look) => look.texture),
      TEXTURES,
      () => random.pick(TEXTURES),
    );
  }
  return weighted(random, BIAS.texture);
}

/** Redraws until the value is new; a scene of distinct objects is what its caption can be judged by. */
function other<T>(taken: readonly T[], all: readonly T[], draw: () => T): T {
  for (let attempt = 0; attempt < 32; attempt++) {
    const value = draw();
    if (!taken.includes(value)) return value;
  }
  return all.find((value) => !taken.includes(value)) as T;
}

function placePair(random: PhiloxSequence, relation: Relation): Place[] {
  const [low, high] = RADII[1] as readonly [number, number];
  const radii = [between(random, low, high), between(random, low, high)] as const;
  const vertical = relation === 'above' || relation === 'below';
  const gap = between(random, 3.5, 6);
  const span = radii[0] * 2 + radii[1] * 2 + gap;
  const start = between(random, MARGIN, IMAGE_SIZE - MARGIN - span);
  const along = [start + radii[0], start + radii[0] * 2 + gap + radii[1]] as const;
  const center = between(random, 22, 42);
  const across = radii.map((radius) => {
    const offset = center + between(random, -5, 5);
    return Math.min(Math.max(offset, radius + MARGIN), IMAGE_SIZE - MARGIN - radius);
  }) as [number, number];
  const places: Place[] = [0, 1].map((index) => {
    const a = along[index] as number;
    const b = across[index] as number;
    return { x: vertical ? b : a, y: vertical ? a : b, radius: radii[index] as number };
  });
  const swap = relation === 'right' || relation === 'below' || (relation === 'next' && chance(random, 0.5));
  return swap ? places.reverse() : places;
}

/** Places one object near the middle, or two or three on the corners of a jittered grid, in random order. */
function placeApart(random: PhiloxSequence, count: number): Place[] {
  const [low, high] = RADII[count - 1] as readonly [number, number];
  if (count === 1) {
    const radius = between(random, low, high);
    const free = IMAGE_SIZE / 2 - radius - MARGIN;
    const reach = Math.min(free, 9);
    return [{ x: 32 + between(random, -reach, reach), y: 32 + between(random, -reach, reach), radius }];
  }
  const cells = random
    .shuffle([
      [17, 17],
      [47, 17],
      [17, 47],
      [47, 47],
    ])
    .slice(0, count);
  return cells.map(([x, y]) => {
    const radius = between(random, low, high);
    const reach = 15 - radius - 0.5;
    return {
      x: (x as number) + between(random, -reach, reach),
      y: (y as number) + between(random, -reach, reach),
      radius,
    };
  });
}
