/**
 * Processing a large image in overlapping tiles that are blended linearly where they overlap, with the tile
 * sizes and weights of diffusers' tiled mode. The memory needed is that of one tile.
 *
 * It is an approximation: norms and attention see one tile at a time.
 */
import * as tf from '@tensorflow/tfjs-core';

export interface Tiling {
  /** Side of an input tile. */
  readonly tile: number;
  /** Distance between the starts of neighbouring input tiles. */
  readonly stride: number;
  /** Overlap of neighbouring tiles in the result. */
  readonly overlap: number;
  /** What each tile but the last of a row or column contributes to the result. */
  readonly keep: number;
}

/**
 * Maps `x` [B,H,W,C] tile by tile.
 *
 * @param map turns a tile into its part of the result
 */
export function mapTiles(
  x: tf.Tensor4D,
  tiling: Tiling,
  map: (tile: tf.Tensor4D) => tf.Tensor4D,
): tf.Tensor4D {
  const { tile, stride, overlap, keep } = tiling;
  return tf.tidy(() => {
    const rows: tf.Tensor4D[] = [];
    let above: tf.Tensor4D[] = [];
    for (let top = 0; top < x.shape[1]; top += stride) {
      const row = tf.tidy(() => {
        const tiles: tf.Tensor4D[] = [];
        for (let left = 0; left < x.shape[2]; left += stride) {
          tiles.push(tf.tidy(() => map(crop(x, [top, left], tile))));
        }
        return blendRow(tiles, above, overlap);
      });
      tf.dispose(above);
      above = row;
      rows.push(
        tf.tidy(() =>
          tf.concat(
            row.map((part) => crop(part, [0, 0], keep)),
            2,
          ),
        ),
      );
    }
    return tf.concat(rows, 1);
  });
}

/** Blends each tile with the blended tile above it, then with the blended tile to its left. */
function blendRow(
  tiles: readonly tf.Tensor4D[],
  above: readonly tf.Tensor4D[],
  overlap: number,
): tf.Tensor4D[] {
  const blended: tf.Tensor4D[] = [];
  tiles.forEach((tile, index) => {
    let result = tile;
    if (above[index] !== undefined) result = blend(above[index], result, overlap, 1);
    if (index > 0) result = blend(blended[index - 1]!, result, overlap, 2);
    blended.push(result);
  });
  return blended;
}

/** Fades from the end of `a` to the start of `b` along an axis; the result has the shape of `b`. */
function blend(a: tf.Tensor4D, b: tf.Tensor4D, overlap: number, axis: 1 | 2): tf.Tensor4D {
  const extent = Math.min(a.shape[axis], b.shape[axis], overlap);
  if (extent === 0) return b;
  return tf.tidy(() => {
    const shape: [number, number, number, number] = [1, 1, 1, 1];
    shape[axis] = extent;
    const weight = tf.tensor4d(
      Float32Array.from({ length: extent }, (_, i) => i / extent),
      shape,
    );
    const tail = part(a, axis, a.shape[axis] - extent, extent);
    const head = part(b, axis, 0, extent);
    const mixed = tf.add(tf.mul(tail, tf.sub(1, weight)), tf.mul(head, weight)) as tf.Tensor4D;
    if (extent === b.shape[axis]) return mixed;
    return tf.concat([mixed, part(b, axis, extent, b.shape[axis] - extent)], axis);
  });
}

function part(x: tf.Tensor4D, axis: 1 | 2, start: number, length: number): tf.Tensor4D {
  const begin: [number, number, number, number] = [0, 0, 0, 0];
  const size: [number, number, number, number] = [...x.shape];
  begin[axis] = start;
  size[axis] = length;
  return tf.slice(x, begin, size);
}

/** At most `side` by `side` positions from `start`, fewer at the edge. */
function crop(x: tf.Tensor4D, [top, left]: readonly [number, number], side: number): tf.Tensor4D {
  const [batch, height, width, channels] = x.shape;
  const size: [number, number, number, number] = [
    batch,
    Math.min(side, height - top),
    Math.min(side, width - left),
    channels,
  ];
  return tf.slice(x, [0, top, left, 0], size);
}
