/** Information maps as pictures. */
import type { RgbImage } from '@equipoise/models';
import type { InformationMap } from './estimate.js';

export interface HeatMapOptions {
  /** Magnitude that is shown white; default: the map's largest. Give one for maps that are to be compared. */
  readonly largest?: number;
  /** Picture shown in gray below the heat. */
  readonly over?: RgbImage;
}

/** Share of the heat in a pixel over a picture. */
const HEAT_SHARE = 0.65;

/**
 * A heat map of the size of the picture it belongs to: black at 0, then red, yellow, white, with brightness rising
 * steadily; values below 0, which the standard estimator knows, go by blue and cyan to white. Bilinear between the centres
 * of latent pixels.
 */
export function heatMap(
  { values, height: rows, width: columns }: InformationMap,
  { width, height }: { readonly width: number; readonly height: number },
  { largest = largestMagnitude(values), over }: HeatMapOptions = {},
): RgbImage {
  const data = new Uint8Array(width * height * 3);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const value = interpolate(values, rows, columns, (y + 0.5) / height, (x + 0.5) / width);
      const at = (y * width + x) * 3;
      const heat = heatColor(largest > 0 ? value / largest : 0);
      const base = over === undefined ? 0 : luminance(over.data, at);
      const share = over === undefined ? 1 : HEAT_SHARE;
      heat.forEach((channel, c) => {
        data[at + c] = Math.round(share * channel + (1 - share) * base);
      });
    }
  }
  return { width, height, data };
}

/** What a scale has to reach to show all values of a map. */
export function largestMagnitude(values: Float32Array): number {
  return values.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0);
}

/** Value at a place given as shares of height and width; beyond the outermost centres it stays constant. */
function interpolate(values: Float32Array, rows: number, columns: number, y: number, x: number): number {
  const clamp = (value: number, end: number): number => Math.min(Math.max(value, 0), end);
  const [v, u] = [clamp(y * rows - 0.5, rows - 1), clamp(x * columns - 0.5, columns - 1)];
  const [top, left] = [Math.floor(v), Math.floor(u)];
  const [bottom, right] = [Math.min(top + 1, rows - 1), Math.min(left + 1, columns - 1)];
  const read = (row: number, column: number): number => values[row * columns + column] as number;
  const above = read(top, left) + (read(top, right) - read(top, left)) * (u - left);
  const below = read(bottom, left) + (read(bottom, right) - read(bottom, left)) * (u - left);
  return above + (below - above) * (v - top);
}

/** Above 0 red first, then green, then blue reach their full value, as in a glowing body; below 0 blue first, red last. */
function heatColor(share: number): [number, number, number] {
  const value = Math.min(Math.abs(share), 1) * 3;
  const channel = (from: number): number => 255 * Math.min(Math.max(value - from, 0), 1);
  const [first, second, third] = [channel(0), channel(1), channel(2)];
  return share < 0 ? [third, second, first] : [first, second, third];
}

function luminance(rgb: Uint8Array, at: number): number {
  return 0.2126 * (rgb[at] as number) + 0.7152 * (rgb[at + 1] as number) + 0.0722 * (rgb[at + 2] as number);
}
