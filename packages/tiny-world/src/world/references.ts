/**
 * Reference images for inclusive-token training, in the layout of ITI-GEN's data: a folder per attribute, in it
 * a folder per category, in it pictures. Within a category every other attribute follows the bias table, as in a
 * set of photographs somebody collected for one attribute.
 */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { invalid, writeFileAtomic } from '@equipoise/core';
import sharp from 'sharp';
import { HEADSHOT_ATTRIBUTES, type HeadshotAttribute } from '../judges/headshot-judge.js';
import { IMAGE_SIZE } from './attributes.js';
import { IMAGE_BYTES, renderImages } from './render.js';
import { drawSamples } from './sample.js';

export interface ReferenceOptions {
  readonly seed: number;
  /** Pictures of each category. */
  readonly perCategory: number;
}

/** Folder name of an attribute's value; presence and absence are `positive` and `negative`, as for CelebA. */
export function categoryName(value: string | boolean): string {
  return typeof value === 'boolean' ? (value ? 'positive' : 'negative') : value;
}

/** Categories of an attribute in label order. */
export function categoriesOf(attribute: HeadshotAttribute): readonly (string | boolean)[] {
  const values = HEADSHOT_ATTRIBUTES[attribute] as readonly (string | boolean)[] | undefined;
  if (values === undefined)
    throw invalid('attribute', Object.keys(HEADSHOT_ATTRIBUTES).join(', '), attribute);
  return values;
}

/** Writes `folder/<attribute>/<category>/<n>.png` for the attributes. */
export async function writeReferences(
  folder: string,
  attributes: readonly HeadshotAttribute[],
  { seed, perCategory }: ReferenceOptions,
): Promise<void> {
  if (!Number.isInteger(perCategory) || perCategory < 1)
    throw invalid('perCategory', 'a positive integer', perCategory);
  for (const attribute of attributes) {
    for (const [index, value] of categoriesOf(attribute).entries()) {
      const target = join(folder, attribute, categoryName(value));
      await mkdir(target, { recursive: true });
      const headshot = { [attribute]: value };
      const samples = drawSamples(seed, 'reference', perCategory, index * perCategory, {
        kind: 'headshot',
        headshot,
      });
      const images = await renderImages(samples);
      for (let n = 0; n < perCategory; n++) {
        const pixels = images.subarray(n * IMAGE_BYTES, (n + 1) * IMAGE_BYTES);
        const png = await sharp(pixels, { raw: { width: IMAGE_SIZE, height: IMAGE_SIZE, channels: 3 } })
          .png()
          .toBuffer();
        await writeFileAtomic(join(target, `${String(n).padStart(3, '0')}.png`), png);
      }
    }
  }
}
