/** Grids of pictures for reports. */
import path from 'node:path';
import { encodePng } from '@equipoise/diffusion';
import { decodeImage, type RgbImage, resizeBicubic } from '@equipoise/models';
import type { ReportImage } from '@equipoise/report';
import type { CellResult } from '../laboratory.js';

/** Larger pictures are shrunk to this side in reports. */
const LARGEST_SIDE = 128;

/** Pictures of one size side by side on white, `columns` in a row. */
export function gridImage(images: readonly RgbImage[], columns: number): RgbImage {
  const cells = images.map(shrunk);
  const side = {
    width: Math.max(1, ...cells.map(({ width }) => width)),
    height: Math.max(1, ...cells.map(({ height }) => height)),
  };
  const across = Math.max(1, Math.min(columns, cells.length));
  const width = across * side.width;
  const height = Math.max(1, Math.ceil(cells.length / across)) * side.height;
  const data = new Uint8Array(width * height * 3).fill(255);
  for (const [i, cell] of cells.entries()) {
    const left = (i % across) * side.width;
    const top = Math.floor(i / across) * side.height;
    for (let y = 0; y < cell.height; y++) {
      const row = cell.data.subarray(y * cell.width * 3, (y + 1) * cell.width * 3);
      data.set(row, ((top + y) * width + left) * 3);
    }
  }
  return { width, height, data };
}

function shrunk(image: RgbImage): RgbImage {
  const longest = Math.max(image.width, image.height);
  if (longest <= LARGEST_SIDE) return image;
  const scale = LARGEST_SIDE / longest;
  return resizeBicubic(
    image,
    Math.max(1, Math.round(image.width * scale)),
    Math.max(1, Math.round(image.height * scale)),
  );
}

/** An image of a set: where it lies and what it was asked to show. */
export interface LabelledFile {
  readonly file: string;
  readonly labels: Readonly<Record<string, string>>;
}

/** One grid per combination of categories that was asked for; one grid in all when nothing was. */
export async function labelledGrids(
  images: readonly LabelledFile[],
  { columns = 8, perGrid = 8, grids = 36 } = {},
): Promise<ReportImage[]> {
  const groups = new Map<string, string[]>();
  for (const { file, labels } of images) {
    const caption = Object.entries(labels)
      .map(([attribute, category]) => `${attribute}: ${category}`)
      .join(', ');
    groups.set(caption, [...(groups.get(caption) ?? []), file]);
  }
  const result: ReportImage[] = [];
  for (const [caption, files] of [...groups].slice(0, grids)) {
    const chosen = files.slice(0, groups.size === 1 ? perGrid * 3 : perGrid);
    const decoded = await Promise.all(chosen.map((file) => decodeImage(file)));
    const png = await encodePng(gridImage(decoded, columns));
    result.push({ png, caption: caption === '' ? 'as drawn' : caption });
  }
  return result;
}

/** The grids of a cell; `folder` is its laboratory's. */
export function pictureGrids({ images }: CellResult, folder: string): Promise<ReportImage[]> {
  return labelledGrids(images.map(({ file, labels }) => ({ file: path.join(folder, file), labels })));
}
