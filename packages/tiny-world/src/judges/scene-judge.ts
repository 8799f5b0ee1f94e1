/**
 * The binding judge of compositional scenes: for every shape it says how many there are, of which colour and
 * texture, and where. Because colour hangs on the shape, it sees wrong bindings that a bag of attributes hides.
 */
import {
  COLORS,
  type Color,
  IMAGE_SIZE,
  type SceneLabels,
  SHAPES,
  type Shape,
  TEXTURES,
  type Texture,
} from '../world/attributes.js';
import { type Answers, type Head, readVerdicts } from './heads.js';

const MOST_OBJECTS = 3;

/** Counts of all shapes first, then their colours, textures and centres. */
export const SCENE_HEADS: readonly Head[] = [
  ...SHAPES.map((shape): Head => ({ name: `${shape} count`, kind: 'choice', size: MOST_OBJECTS + 1 })),
  ...SHAPES.map((shape): Head => ({ name: `${shape} color`, kind: 'choice', size: COLORS.length })),
  ...SHAPES.map((shape): Head => ({ name: `${shape} texture`, kind: 'choice', size: TEXTURES.length })),
  ...SHAPES.map((shape): Head => ({ name: `${shape} position`, kind: 'position', size: 2 })),
];

/** The right answers for a scene. Objects of one shape look alike (the world draws no other); the centre is their mean. */
export function sceneAnswers(scene: SceneLabels): Answers {
  const groups = SHAPES.map((shape) => scene.objects.filter((object) => object.shape === shape));
  const mean = (values: readonly number[]): number =>
    values.reduce((a, b) => a + b, 0) / values.length / IMAGE_SIZE;
  return [
    ...groups.map((group) => group.length),
    ...groups.map((group) => (group[0] ? COLORS.indexOf(group[0].color) : null)),
    ...groups.map((group) => (group[0] ? TEXTURES.indexOf(group[0].texture) : null)),
    ...groups.map((group) => (group[0] ? [mean(group.map((o) => o.x)), mean(group.map((o) => o.y))] : null)),
  ];
}

/** What the judge sees of one shape. */
export interface SeenShape {
  readonly shape: Shape;
  readonly count: number;
  readonly color: Color;
  readonly texture: Texture;
  /** Centre in pixels. */
  readonly x: number;
  readonly y: number;
  /** Smallest of the probabilities of count, colour and texture. */
  readonly confidence: number;
}

/** The shapes in a picture, from one row of the judge's logits. */
export function readScene(logits: Float32Array): SeenShape[] {
  const verdicts = readVerdicts(SCENE_HEADS, logits);
  return SHAPES.flatMap((shape, index) => {
    const [count, color, texture, position] = [0, 1, 2, 3].map(
      (part) => verdicts[part * SHAPES.length + index]!,
    ) as [
      (typeof verdicts)[number],
      (typeof verdicts)[number],
      (typeof verdicts)[number],
      (typeof verdicts)[number],
    ];
    if (count.choice === 0) return [];
    return [
      {
        shape,
        count: count.choice,
        color: COLORS[color.choice]!,
        texture: TEXTURES[texture.choice]!,
        x: position.values[0]! * IMAGE_SIZE,
        y: position.values[1]! * IMAGE_SIZE,
        confidence: Math.min(count.probability, color.probability, texture.probability),
      },
    ];
  });
}
