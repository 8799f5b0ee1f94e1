/** Image files to raw 8-bit RGB through sharp, which decodes and turns upright, but does not resize. */
import { EquipoiseError, invalid, prose } from '@equipoise/core';
import sharp, { type Metadata } from 'sharp';
import type { RgbImage } from './resize-bicubic.js';

/** Raster formats that are read; sharp knows more, some of which execute or fetch things (SVG, PDF). */
export const imageFormats: readonly string[] = ['jpeg', 'png', 'webp', 'gif', 'tiff', 'heif'];

export interface DecodeOptions {
  /** Names the image in errors. Default: the path, or 'image'. */
  name?: string;
  /** Width times height at most. Default 2^26 (67 million). */
  maxPixels?: number;
  /** An animation or several pages: refuse it (default), or take its first frame. */
  frames?: 'refuse' | 'first';
  /** Turn the image upright by its EXIF orientation, as the loaders of transformers and diffusers do. Default true. */
  orient?: boolean;
}

const defaultMaxPixels = 2 ** 26;

function unreadable(name: string, error: unknown): EquipoiseError {
  const reason = error instanceof Error ? error.message : String(error);
  const missing = /missing|no such file/i.test(reason);
  return new EquipoiseError(missing ? 'missing' : 'corrupt', `${name}: expected an image, got: ${reason}`, {
    cause: error,
  });
}

function check(metadata: Metadata, name: string, options: DecodeOptions): void {
  const { format, width, height, pages } = metadata;
  if (!imageFormats.includes(format)) {
    throw invalid(name, `an image in one of ${imageFormats.join(', ')}`, format, { code: 'unsupported' });
  }
  const limit = options.maxPixels ?? defaultMaxPixels;
  if (width * height > limit) {
    throw invalid(name, `at most ${limit} pixels`, prose(`${width} x ${height}`), { code: 'unsupported' });
  }
  if ((pages ?? 1) > 1 && options.frames !== 'first') {
    throw invalid(name, 'a single picture', prose(`an animation or document of ${pages} frames`), {
      code: 'unsupported',
      hints: ['Save the frame that is meant as a picture of its own.'],
    });
  }
}

/**
 * Decodes a file or its bytes. Grey, palette, 16-bit and CMYK images become 8-bit RGB, transparency is
 * dropped (not blended), embedded color profiles are ignored except for CMYK, as training pipelines do.
 * @throws EquipoiseError `corrupt`, `missing` or `unsupported`, naming the image
 */
export async function decodeImage(
  input: string | Uint8Array,
  options: DecodeOptions = {},
): Promise<RgbImage> {
  const name = options.name ?? (typeof input === 'string' ? input : 'image');
  // The limit is ours, checked on the header: sharp's own message would not name the file.
  const common = { limitInputPixels: false, failOn: 'warning' } as const;
  let metadata: Metadata;
  try {
    metadata = await sharp(input, common).metadata();
  } catch (error) {
    throw unreadable(name, error);
  }
  check(metadata, name, options);
  try {
    let pipeline = sharp(input, { ...common, ignoreIcc: metadata.space !== 'cmyk', page: 0, pages: 1 });
    if (options.orient ?? true) pipeline = pipeline.autoOrient();
    const { data, info } = await pipeline
      .removeAlpha()
      .toColourspace('srgb')
      .raw({ depth: 'uchar' })
      .toBuffer({ resolveWithObject: true });
    if (info.channels !== 3) throw new Error(`${info.channels} channels after conversion to RGB`);
    return {
      width: info.width,
      height: info.height,
      data: new Uint8Array(data.buffer, data.byteOffset, data.length),
    };
  } catch (error) {
    throw unreadable(name, error);
  }
}
