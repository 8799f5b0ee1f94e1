/** A rule-based judge of backgrounds: the nearest of the drawn ones by the colors of the picture's upper and lower edge. */
import { PhiloxSequence, streamId } from '@equipoise/core';
import { BACKGROUNDS, type Background, IMAGE_SIZE } from '../world/attributes.js';
import { IMAGE_BYTES, renderImages } from '../world/render.js';
import { drawScene } from '../world/scene.js';

/** Pictures drawn of each background to learn its colors. */
const EXAMPLES = 8;
/** Rows of pixels that count as an edge. */
const EDGE = 6;

/** Mean color of the upper and of the lower edge. */
type EdgeColors = readonly number[];

export class BackgroundJudge {
  private constructor(readonly references: ReadonlyMap<Background, EdgeColors>) {}

  /** Draws a few pictures of each background and remembers their colors. */
  static async create(): Promise<BackgroundJudge> {
    const references = new Map<Background, EdgeColors>();
    for (const background of BACKGROUNDS) {
      const samples = Array.from({ length: EXAMPLES }, (_, i) => {
        const key = `background judge:${background}:${i}`;
        const random = new PhiloxSequence(0, streamId('tiny-world', key));
        return { labels: drawScene(random, { category: 'single', background }), seed: 0, key };
      });
      const images = await renderImages(samples);
      const colors = samples.map((_, i) =>
        edgeColors(images.subarray(i * IMAGE_BYTES, (i + 1) * IMAGE_BYTES)),
      );
      references.set(
        background,
        Array.from(
          { length: 6 },
          (_, c) => colors.reduce((sum, own) => sum + (own[c] as number), 0) / EXAMPLES,
        ),
      );
    }
    return new BackgroundJudge(references);
  }

  /** The background of a picture of [64, 64, 3] bytes. */
  name(image: Uint8Array): Background {
    const own = edgeColors(image);
    const distance = (other: EdgeColors): number =>
      other.reduce((sum, value, c) => sum + (value - (own[c] as number)) ** 2, 0);
    return [...this.references].reduce((best, one) => (distance(one[1]) < distance(best[1]) ? one : best))[0];
  }
}

function edgeColors(image: Uint8Array): number[] {
  const mean = (firstRow: number): number[] => {
    const sums = [0, 0, 0];
    for (let i = firstRow * IMAGE_SIZE; i < (firstRow + EDGE) * IMAGE_SIZE; i++)
      for (let c = 0; c < 3; c++) sums[c] = (sums[c] as number) + (image[i * 3 + c] as number);
    return sums.map((sum) => sum / (EDGE * IMAGE_SIZE));
  };
  return [...mean(0), ...mean(IMAGE_SIZE - EDGE)];
}
