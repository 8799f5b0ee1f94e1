/** The world as a function: (seed, split, index) gives labels and a caption; the same arguments, the same sample. */
import { PhiloxSequence, streamId } from '@equipoise/core';
import type { WorldKind, WorldLabels } from './attributes.js';
import { BIAS, chance } from './bias.js';
import { drawCaption } from './caption.js';
import type { HeadshotRequest } from './headshot.js';
import { drawHeadshot } from './headshot.js';
import type { Drawable } from './render.js';
import type { SceneRequest } from './scene.js';
import { drawScene } from './scene.js';

/** Splits never share a picture: their random streams are different. */
export type Split = 'train' | 'judge' | 'test' | 'reference';

export interface WorldSample extends Drawable {
  readonly caption: string;
  readonly labels: WorldLabels;
}

export interface WorldRequest {
  /** Default: a headshot with probability `BIAS.headshotShare`. */
  readonly kind?: WorldKind;
  readonly scene?: SceneRequest;
  readonly headshot?: HeadshotRequest;
}

/** Draws sample `index` of a split. */
export function drawSample(
  seed: number,
  split: Split,
  index: number,
  request: WorldRequest = {},
): WorldSample {
  const key = `${split}:${index}`;
  const random = new PhiloxSequence(seed, streamId('tiny-world', 'labels', key));
  const headshot = chance(random, BIAS.headshotShare);
  const kind = request.kind ?? (headshot ? 'headshot' : 'scene');
  const labels =
    kind === 'headshot' ? drawHeadshot(random, request.headshot) : drawScene(random, request.scene);
  return { labels, caption: drawCaption(random, labels), seed, key };
}

/** Draws samples `start` to `start + count - 1` of a split. */
export function drawSamples(
  seed: number,
  split: Split,
  count: number,
  start = 0,
  request: WorldRequest = {},
): WorldSample[] {
  return Array.from({ length: count }, (_, offset) => drawSample(seed, split, start + offset, request));
}
