/**
 * The binding judge of compositional scenes. On every cell of an 8 x 8 grid it says whether an object is there, of
 * which shape, color and texture, and where its centre is; cells that point at one centre are one object. Because
 * color and texture hang on the object, it sees wrong bindings that a bag of attributes hides.
 */
import * as tf from '@tensorflow/tfjs-core';
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
import { GRID } from './network.js';

const CELL = IMAGE_SIZE / GRID;
const CELLS = GRID * GRID;
/** Shape logits begin with "no object". */
const SHAPE_WIDTH = SHAPES.length + 1;
const COLOR_AT = SHAPE_WIDTH;
const TEXTURE_AT = COLOR_AT + COLORS.length;
const OFFSET_AT = TEXTURE_AT + TEXTURES.length;
/** Numbers per cell: shape, color and texture logits, and the offset to the object's centre in cells. */
export const SCENE_OUTPUTS = OFFSET_AT + 2;

/** A cell belongs to an object when its middle is within this share of the radius from the centre. */
const REACH = 0.7;
/** Cells whose votes for a centre are closer than this many pixels are one object. */
const SAME_OBJECT = 8;

/** What the judge is taught about a batch. */
export interface SceneTargets extends tf.NamedTensorMap {
  /** One-hot classes and offsets by cell [B, 64, SCENE_OUTPUTS]. */
  values: tf.Tensor;
  /** 1 on cells that belong to an object [B, 64]. */
  inside: tf.Tensor;
}

function middle(cell: number): { x: number; y: number } {
  return { x: ((cell % GRID) + 0.5) * CELL, y: (Math.floor(cell / GRID) + 0.5) * CELL };
}

/** The right answers for scenes. */
export function sceneTargets(scenes: readonly SceneLabels[]): SceneTargets {
  const values = new Float32Array(scenes.length * CELLS * SCENE_OUTPUTS);
  const inside = new Float32Array(scenes.length * CELLS);
  scenes.forEach(({ objects }, b) => {
    for (let cell = 0; cell < CELLS; cell++) {
      const { x, y } = middle(cell);
      const row = (b * CELLS + cell) * SCENE_OUTPUTS;
      const object = objects.find((one) => Math.hypot(one.x - x, one.y - y) <= REACH * one.radius);
      if (object === undefined) {
        values[row] = 1;
        continue;
      }
      inside[b * CELLS + cell] = 1;
      values[row + 1 + SHAPES.indexOf(object.shape)] = 1;
      values[row + COLOR_AT + COLORS.indexOf(object.color)] = 1;
      values[row + TEXTURE_AT + TEXTURES.indexOf(object.texture)] = 1;
      values[row + OFFSET_AT] = (object.x - x) / CELL;
      values[row + OFFSET_AT + 1] = (object.y - y) / CELL;
    }
  });
  return {
    values: tf.tensor3d(values, [scenes.length, CELLS, SCENE_OUTPUTS]),
    inside: tf.tensor2d(inside, [scenes.length, CELLS]),
  };
}

/** Cross-entropy of shapes over all cells, of colors and textures and the squared error of offsets inside objects. */
export function sceneLoss(output: tf.Tensor, { values, inside }: SceneTargets): tf.Scalar {
  return tf.tidy(() => {
    const [batch] = output.shape as [number, number, number];
    const part = (x: tf.Tensor, from: number, to: number): tf.Tensor =>
      tf.slice(x as tf.Tensor3D, [0, 0, from], [batch, CELLS, to - from]);
    const entropy = (from: number, to: number): tf.Tensor =>
      tf.neg(tf.sum(tf.mul(part(values, from, to), tf.logSoftmax(part(output, from, to), -1)), -1));
    const errors = tf.squaredDifference(
      part(output, OFFSET_AT, SCENE_OUTPUTS),
      part(values, OFFSET_AT, SCENE_OUTPUTS),
    );
    const within = tf.addN([
      entropy(COLOR_AT, TEXTURE_AT),
      entropy(TEXTURE_AT, OFFSET_AT),
      tf.sum(errors, -1),
    ]);
    const count = tf.maximum(tf.sum(inside), 1);
    const shapes = tf.sum(entropy(0, SHAPE_WIDTH));
    return tf.div(tf.add(shapes, tf.sum(tf.mul(within, inside))), count) as tf.Scalar;
  });
}

/** An object as the judge sees it. */
export interface SeenObject {
  readonly shape: Shape;
  readonly color: Color;
  readonly texture: Texture;
  /** Centre in pixels. */
  readonly x: number;
  readonly y: number;
  /** Smallest of the probabilities of shape, color and texture. */
  readonly confidence: number;
}

function softmax(logits: Float32Array): number[] {
  const largest = Math.max(...logits);
  const powers = Array.from(logits, (logit) => Math.exp(logit - largest));
  const total = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / total);
}

interface Vote {
  readonly x: number;
  readonly y: number;
  /** Probabilities of shapes (without "no object"), colors, textures, side by side. */
  readonly probabilities: readonly number[];
}

/** The votes of the cells that see an object. */
function votes(output: Float32Array): Vote[] {
  const found: Vote[] = [];
  for (let cell = 0; cell < CELLS; cell++) {
    const row = output.subarray(cell * SCENE_OUTPUTS, (cell + 1) * SCENE_OUTPUTS);
    const shapes = softmax(row.subarray(0, SHAPE_WIDTH));
    if (shapes[0]! >= 0.5) continue;
    const { x, y } = middle(cell);
    const colors = softmax(row.subarray(COLOR_AT, TEXTURE_AT));
    const textures = softmax(row.subarray(TEXTURE_AT, OFFSET_AT));
    found.push({
      x: x + row[OFFSET_AT]! * CELL,
      y: y + row[OFFSET_AT + 1]! * CELL,
      probabilities: [...shapes.slice(1), ...colors, ...textures],
    });
  }
  return found;
}

function merge(group: readonly Vote[]): SeenObject {
  const mean = (read: (vote: Vote) => number): number =>
    group.reduce((sum, vote) => sum + read(vote), 0) / group.length;
  const means = group[0]!.probabilities.map((_, index) => mean((vote) => vote.probabilities[index]!));
  const [shapes, colors] = [
    means.slice(0, SHAPES.length),
    means.slice(SHAPES.length, SHAPES.length + COLORS.length),
  ];
  const textures = means.slice(SHAPES.length + COLORS.length);
  const best = (list: readonly number[]): number => list.indexOf(Math.max(...list));
  return {
    shape: SHAPES[best(shapes)]!,
    color: COLORS[best(colors)]!,
    texture: TEXTURES[best(textures)]!,
    x: mean((vote) => vote.x),
    y: mean((vote) => vote.y),
    confidence: Math.min(...[shapes, colors, textures].map((list) => Math.max(...list))),
  };
}

/** The objects in a picture, from the judge's output for it (64 cells one after the other). */
export function readScene(output: Float32Array): SeenObject[] {
  const groups: Vote[][] = [];
  for (const vote of votes(output)) {
    const group = groups.find((others) =>
      others.some((other) => Math.hypot(other.x - vote.x, other.y - vote.y) < SAME_OBJECT),
    );
    if (group) group.push(vote);
    else groups.push([vote]);
  }
  return groups.map(merge);
}

/** Questions to the scene judge, and how many of how many answers were right. */
export type Tally = Map<string, { right: number; asked: number }>;

/** Adds one answer to a tally. */
export function count(tally: Tally, question: string, right: boolean): void {
  const entry = tally.get(question) ?? { right: 0, asked: 0 };
  tally.set(question, { right: entry.right + (right ? 1 : 0), asked: entry.asked + 1 });
}

/** Centres closer than this many pixels are the same place. */
const POSITION_TOLERANCE = 4;

/** Compares what the judge sees with what is there; "binding" asks for everything at once. */
export function tallyScene(tally: Tally, seen: readonly SeenObject[], scene: SceneLabels): void {
  const pairs = scene.objects.map((object) => ({
    object,
    match: seen.find((one) => Math.hypot(one.x - object.x, one.y - object.y) < SAME_OBJECT),
  }));
  for (const { object, match } of pairs) {
    for (const key of ['shape', 'color', 'texture'] as const) count(tally, key, match?.[key] === object[key]);
    const distance = match ? Math.hypot(match.x - object.x, match.y - object.y) : Number.POSITIVE_INFINITY;
    count(tally, 'position', distance <= POSITION_TOLERANCE);
  }
  count(tally, 'count', seen.length === scene.objects.length);
  const bound = pairs.every(
    ({ object, match }) => match?.shape === object.shape && match.color === object.color,
  );
  count(tally, 'binding', bound && seen.length === scene.objects.length);
}
