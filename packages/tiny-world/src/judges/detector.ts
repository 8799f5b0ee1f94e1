/**
 * A rule-based detector for compositional scenes: finds saturated regions and names their colour by hue. It is
 * trained on nothing, so it cannot share a blind spot with the judges.
 */
import { invalid, prose } from '@equipoise/core';
import { type Color, IMAGE_SIZE, type Relation } from '../world/attributes.js';
import { IMAGE_BYTES } from '../world/render.js';

export interface Detection {
  readonly color: Color;
  /** Centre of the bounding box in pixels. */
  readonly x: number;
  readonly y: number;
  /** Saturated pixels. */
  readonly area: number;
  readonly left: number;
  readonly top: number;
  readonly right: number;
  readonly bottom: number;
}

/** Chroma (largest minus smallest channel) above which a pixel belongs to an object; backgrounds stay below 60. */
const OBJECT_CHROMA = 62;
/** Regions of fewer pixels are specks. */
const SMALLEST_AREA = 24;
/** Value below which an orange hue is brown. */
const BROWN_VALUE = 158;

/** Upper ends of hue ranges in degrees, in order around the circle. */
const HUES: readonly (readonly [number, Color])[] = [
  [13, 'red'],
  [42, 'orange'],
  [72, 'yellow'],
  [175, 'green'],
  [253, 'blue'],
  [303, 'purple'],
  [346, 'pink'],
  [360, 'red'],
];

function chroma(r: number, g: number, b: number): number {
  return Math.max(r, g, b) - Math.min(r, g, b);
}

/** The colour word for a saturated pixel. */
export function nameColor(r: number, g: number, b: number): Color {
  const range = chroma(r, g, b) || 1;
  const largest = Math.max(r, g, b);
  const sixth =
    largest === r ? ((g - b) / range + 6) % 6 : largest === g ? (b - r) / range + 2 : (r - g) / range + 4;
  const hue = sixth * 60;
  const color = (HUES.find(([end]) => hue <= end) as readonly [number, Color])[1];
  return color === 'orange' && largest < BROWN_VALUE ? 'brown' : color;
}

/** Objects of one picture of [64, 64, 3] bytes, largest first. */
export function detectObjects(image: Uint8Array): Detection[] {
  if (image.length !== IMAGE_BYTES) throw invalid('image', `${IMAGE_BYTES} bytes`, prose(`${image.length}`));
  const pixels = IMAGE_SIZE * IMAGE_SIZE;
  const mask = new Uint8Array(pixels);
  for (let i = 0; i < pixels; i++) {
    mask[i] =
      chroma(image[i * 3] as number, image[i * 3 + 1] as number, image[i * 3 + 2] as number) >= OBJECT_CHROMA
        ? 1
        : 0;
  }
  const found: Detection[] = [];
  for (let start = 0; start < pixels; start++) {
    if (mask[start] !== 1) continue;
    const region = flood(mask, start);
    if (region.length >= SMALLEST_AREA) found.push(describeRegion(image, region));
  }
  return found.sort((a, b) => b.area - a.area);
}

/** Pixels connected to `start`, bridging gaps of two pixels; they are cleared from the mask. */
function flood(mask: Uint8Array, start: number): number[] {
  const region = [start];
  mask[start] = 0;
  for (let head = 0; head < region.length; head++) {
    const pixel = region[head] as number;
    const [x, y] = [pixel % IMAGE_SIZE, Math.floor(pixel / IMAGE_SIZE)];
    for (let v = Math.max(0, y - 3); v <= Math.min(IMAGE_SIZE - 1, y + 3); v++) {
      for (let u = Math.max(0, x - 3); u <= Math.min(IMAGE_SIZE - 1, x + 3); u++) {
        const next = v * IMAGE_SIZE + u;
        if (mask[next] !== 1) continue;
        mask[next] = 0;
        region.push(next);
      }
    }
  }
  return region;
}

function describeRegion(image: Uint8Array, region: readonly number[]): Detection {
  const votes = new Map<Color, number>();
  let [left, top, right, bottom] = [IMAGE_SIZE, IMAGE_SIZE, 0, 0];
  for (const pixel of region) {
    const [r, g, b] = [image[pixel * 3], image[pixel * 3 + 1], image[pixel * 3 + 2]] as [
      number,
      number,
      number,
    ];
    const color = nameColor(r, g, b);
    // The more saturated, the surer; edges blend with the background.
    votes.set(color, (votes.get(color) ?? 0) + chroma(r, g, b));
    const [x, y] = [pixel % IMAGE_SIZE, Math.floor(pixel / IMAGE_SIZE)];
    left = Math.min(left, x);
    right = Math.max(right, x);
    top = Math.min(top, y);
    bottom = Math.max(bottom, y);
  }
  const [color] = [...votes].reduce((best, vote) => (vote[1] > best[1] ? vote : best));
  return {
    color,
    x: (left + right) / 2,
    y: (top + bottom) / 2,
    area: region.length,
    left,
    top,
    right,
    bottom,
  };
}

/**
 * Whether the first centre stands in the relation to the second, by the rule of T2I-CompBench's spatial metric:
 * the offset along the relation's axis must have the right sign and exceed the other axis's; "next to" asks for
 * neighbourhood only.
 */
export function standsIn(
  relation: Relation,
  first: { x: number; y: number },
  second: { x: number; y: number },
): boolean {
  const dx = second.x - first.x;
  const dy = second.y - first.y;
  switch (relation) {
    case 'left':
      return dx > 0 && Math.abs(dx) > Math.abs(dy);
    case 'right':
      return dx < 0 && Math.abs(dx) > Math.abs(dy);
    case 'above':
      return dy > 0 && Math.abs(dy) > Math.abs(dx);
    case 'below':
      return dy < 0 && Math.abs(dy) > Math.abs(dx);
    case 'next':
      return Math.abs(dx) < IMAGE_SIZE / 2 || Math.abs(dy) < IMAGE_SIZE / 2;
  }
}
