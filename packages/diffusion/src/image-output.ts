/** From decoded tensors to 8-bit images, and PNG files that carry their settings. */
import { EquipoiseError, invalid, parseJson, prose, roundHalfEven } from '@equipoise/core';
import type { RgbImage } from '@equipoise/models';
import type * as tf from '@tensorflow/tfjs-core';
import sharp from 'sharp';

const f32 = Math.fround;

/**
 * 8-bit images of values nominally in [-1, 1]: x / 2 + 0.5, clamped to [0, 1], times 255, rounded half to
 * even, as diffusers does.
 * @param values [B, H, W, 3]
 */
export async function toImages(values: tf.Tensor4D): Promise<RgbImage[]> {
  const [count, height, width, channels] = values.shape;
  if (channels !== 3) throw invalid('values', 'RGB images [B, H, W, 3]', values.shape);
  const numbers = await values.data<'float32'>();
  const size = height * width * 3;
  return Array.from({ length: count }, (_, n) => {
    const data = new Uint8Array(size);
    for (let i = 0; i < size; i++) {
      const value = numbers[n * size + i] as number;
      if (Number.isNaN(value)) {
        throw new EquipoiseError('numeric', `image ${n}: expected numbers, got NaN from the decoder`);
      }
      const unit = Math.min(Math.max(f32(f32(value * 0.5) + 0.5), 0), 1);
      data[i] = roundHalfEven(f32(unit * 255));
    }
    return { width, height, data };
  });
}

const signature = Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a);
/** Keyword of the text chunk that holds the settings as JSON. */
const keyword = 'equipoise';

const crcTable = Uint32Array.from({ length: 256 }, (_, n) => {
  let c = n;
  for (let k = 0; k < 8; k++) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1;
  return c;
});

function crc32(data: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of data) crc = (crcTable[(crc ^ byte) & 0xff] as number) ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

/** A PNG chunk: length, type, data, checksum over type and data. */
function chunk(type: string, data: Uint8Array): Buffer {
  const out = Buffer.alloc(12 + data.length);
  out.writeUInt32BE(data.length, 0);
  out.write(type, 4, 'latin1');
  out.set(data, 8);
  out.writeUInt32BE(crc32(out.subarray(4, 8 + data.length)), 8 + data.length);
  return out;
}

/** An uncompressed iTXt chunk: keyword, two zero flags, empty language and translation, UTF-8 text. */
function textChunk(text: string): Buffer {
  return chunk(
    'iTXt',
    Buffer.concat([Buffer.from(`${keyword}\0\0\0\0\0`, 'latin1'), Buffer.from(text, 'utf8')]),
  );
}

/**
 * Encodes a PNG that carries `settings` in a text chunk; {@link readPngSettings} gets them back.
 * @param settings anything JSON can hold
 */
export async function encodePng(image: RgbImage, settings?: unknown): Promise<Buffer> {
  const { width, height, data } = image;
  const png = await sharp(data, { raw: { width, height, channels: 3 } })
    .png()
    .toBuffer();
  if (settings === undefined) return png;
  // The header chunk has a fixed length of 13 bytes; text may follow it anywhere.
  const afterHeader = signature.length + 12 + 13;
  return Buffer.concat([
    png.subarray(0, afterHeader),
    textChunk(JSON.stringify(settings)),
    png.subarray(afterHeader),
  ]);
}

/**
 * The settings that {@link encodePng} stored; undefined when a PNG has none.
 * @param name the file, for messages
 * @throws EquipoiseError `corrupt` when the bytes are not a whole PNG
 */
export function readPngSettings(bytes: Uint8Array, name = 'image'): unknown {
  const corrupt = (reason: string): EquipoiseError =>
    invalid(name, 'a PNG', prose(reason), { code: 'corrupt' });
  if (!signature.every((byte, i) => bytes[i] === byte)) throw corrupt('another signature');
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = signature.length; at + 12 <= view.length; ) {
    const length = view.readUInt32BE(at);
    const type = view.toString('latin1', at + 4, at + 8);
    const end = at + 8 + length;
    if (end + 4 > view.length) break;
    const data = view.subarray(at + 8, end);
    if (type === 'iTXt' && data.toString('latin1', 0, keyword.length + 1) === `${keyword}\0`) {
      if (view.readUInt32BE(end) !== crc32(view.subarray(at + 4, end))) throw corrupt('a wrong checksum');
      return parseJson(data.toString('utf8', keyword.length + 5), `${name}: settings`);
    }
    if (type === 'IEND') return undefined;
    at = end + 4;
  }
  throw corrupt('a file cut short');
}
