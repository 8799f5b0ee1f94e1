/** Rasterises world samples: many 64 x 64 pictures to one SVG document, sharp to raw 8-bit RGB. */

import { PhiloxSequence, streamId } from '@equipoise/core';
import sharp from 'sharp';
import type { WorldLabels } from './attributes.js';
import { IMAGE_SIZE } from './attributes.js';
import { headshotSvg } from './headshot-svg.js';
import { sceneSvg } from './scene-svg.js';

/** Bytes of one picture: 64 x 64 pixels, red, green and blue interleaved. */
export const IMAGE_BYTES = IMAGE_SIZE * IMAGE_SIZE * 3;

/** Pictures a document side. One document costs a fixed 2 ms or so; this many make that negligible. */
const ATLAS_SIDE = 8;

/** What a picture is drawn from. `seed` and `key` fix the details that no label records. */
export interface Drawable {
  readonly labels: WorldLabels;
  readonly seed: number;
  readonly key: string;
}

function fragment(item: Drawable, id: string): string {
  const random = new PhiloxSequence(item.seed, streamId('tiny-world', 'details', item.key));
  return item.labels.kind === 'scene'
    ? sceneSvg(item.labels, random, id)
    : headshotSvg(item.labels, random, id);
}

async function renderAtlas(items: readonly Drawable[], out: Uint8Array): Promise<void> {
  const side = ATLAS_SIDE * IMAGE_SIZE;
  const rows = Math.ceil(items.length / ATLAS_SIDE) * IMAGE_SIZE;
  const tiles = items.map((item, index) => {
    const x = (index % ATLAS_SIDE) * IMAGE_SIZE;
    const y = Math.floor(index / ATLAS_SIDE) * IMAGE_SIZE;
    return `<svg x="${x}" y="${y}" width="${IMAGE_SIZE}" height="${IMAGE_SIZE}" viewBox="0 0 ${IMAGE_SIZE} ${IMAGE_SIZE}">${fragment(item, `i${index}`)}</svg>`;
  });
  const document = `<svg xmlns="http://www.w3.org/2000/svg" width="${side}" height="${rows}">${tiles.join('')}</svg>`;
  const { data, info } = await sharp(Buffer.from(document), { unlimited: true })
    .flatten({ background: '#ffffff' })
    .toColourspace('srgb')
    .raw()
    .toBuffer({ resolveWithObject: true });
  const line = IMAGE_SIZE * 3;
  for (let index = 0; index < items.length; index++) {
    const left = (index % ATLAS_SIDE) * IMAGE_SIZE;
    const top = Math.floor(index / ATLAS_SIDE) * IMAGE_SIZE;
    for (let row = 0; row < IMAGE_SIZE; row++) {
      const from = ((top + row) * info.width + left) * 3;
      out.set(data.subarray(from, from + line), index * IMAGE_BYTES + row * line);
    }
  }
}

/** Renders the items in order; returns [N, 64, 64, 3] bytes. */
export async function renderImages(items: readonly Drawable[]): Promise<Uint8Array> {
  const out = new Uint8Array(items.length * IMAGE_BYTES);
  const perAtlas = ATLAS_SIDE * ATLAS_SIDE;
  for (let start = 0; start < items.length; start += perAtlas) {
    const part = items.slice(start, start + perAtlas);
    await renderAtlas(part, out.subarray(start * IMAGE_BYTES, (start + part.length) * IMAGE_BYTES));
  }
  return out;
}
