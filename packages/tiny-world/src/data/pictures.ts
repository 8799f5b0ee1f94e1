/** Pictures between bytes, tensors and PNG files. */

import { invalid } from '@equipoise/core';
import * as tf from '@tensorflow/tfjs-core';
import sharp from 'sharp';
import { IMAGE_SIZE } from '../world/attributes.js';
import { IMAGE_BYTES } from '../world/render.js';

/** Pictures `indices` of [N, 64, 64, 3] bytes as a tensor [B, 64, 64, 3] in [-1, 1]. */
export function pictureTensor(images: Uint8Array, indices: readonly number[]): tf.Tensor4D {
  const values = new Float32Array(indices.length * IMAGE_BYTES);
  indices.forEach((index, row) => {
    const from = index * IMAGE_BYTES;
    if (index < 0 || from + IMAGE_BYTES > images.length) {
      throw invalid('picture index', `0 to ${images.length / IMAGE_BYTES - 1}`, index);
    }
    const to = row * IMAGE_BYTES;
    for (let i = 0; i < IMAGE_BYTES; i++) values[to + i] = (images[from + i] as number) / 127.5 - 1;
  });
  return tf.tensor4d(values, [indices.length, IMAGE_SIZE, IMAGE_SIZE, 3]);
}

/** How a picture is moved before it is shown to a network. */
export interface Movement {
  /** Pixels to the right and down; edges are repeated. */
  readonly right: number;
  readonly down: number;
  /** Mirror left and right first. */
  readonly flip: boolean;
}

/** Pictures as bytes [B, 64, 64, 3], each moved in its own way. */
export function movedPictures(
  images: Uint8Array,
  indices: readonly number[],
  movements: readonly Movement[],
): Uint8Array {
  const out = new Uint8Array(indices.length * IMAGE_BYTES);
  const inside = (position: number): number => Math.min(IMAGE_SIZE - 1, Math.max(0, position));
  indices.forEach((index, row) => {
    const { right, down, flip } = movements[row] as Movement;
    for (let y = 0; y < IMAGE_SIZE; y++) {
      const line = index * IMAGE_BYTES + inside(y - down) * IMAGE_SIZE * 3;
      for (let x = 0; x < IMAGE_SIZE; x++) {
        const column = inside(x - right);
        const from = line + (flip ? IMAGE_SIZE - 1 - column : column) * 3;
        const to = row * IMAGE_BYTES + (y * IMAGE_SIZE + x) * 3;
        for (let channel = 0; channel < 3; channel++) out[to + channel] = images[from + channel] as number;
      }
    }
  });
  return out;
}

/** A tensor [B, 64, 64, 3] in [-1, 1], clamped and rounded, as bytes. */
export async function pictureBytes(pictures: tf.Tensor4D): Promise<Uint8Array> {
  const values = await pictures.data();
  return Uint8Array.from(values, (value) => Math.round(Math.min(255, Math.max(0, (value + 1) * 127.5))));
}

/** The pictures side by side, `columns` in a row, each pixel enlarged `zoom` times, as a PNG. */
export async function gridPng(images: Uint8Array, columns = 8, zoom = 2): Promise<Buffer> {
  const count = images.length / IMAGE_BYTES;
  const rows = Math.ceil(count / columns);
  const width = columns * IMAGE_SIZE;
  const canvas = Buffer.alloc(width * rows * IMAGE_SIZE * 3, 255);
  const line = IMAGE_SIZE * 3;
  for (let index = 0; index < count; index++) {
    const left = (index % columns) * IMAGE_SIZE;
    const top = Math.floor(index / columns) * IMAGE_SIZE;
    for (let row = 0; row < IMAGE_SIZE; row++) {
      const from = index * IMAGE_BYTES + row * line;
      canvas.set(images.subarray(from, from + line), ((top + row) * width + left) * 3);
    }
  }
  return sharp(canvas, { raw: { width, height: rows * IMAGE_SIZE, channels: 3 } })
    .resize(width * zoom, rows * IMAGE_SIZE * zoom, { kernel: 'nearest' })
    .png({ compressionLevel: 9, palette: true, colours: 256 })
    .toBuffer();
}
