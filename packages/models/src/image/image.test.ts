import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { useEngine } from '@equipoise/backend';
import t from 'tap';
import {
  centerCrop,
  clipCrop,
  clipPreprocess,
  decodeImage,
  parsePreprocessorConfig,
  type RgbImage,
  resizeBicubic,
  resizeShortestEdge,
} from './index.js';

interface Reference {
  resizes: { size: [number, number, number, number]; kind: 'smooth' | 'busy'; sha256: string }[];
  crops: { size: [number, number]; hf: string; openai: string; values: number[] }[];
  files: Record<string, string>;
}
await useEngine('cpu');
const path = (name: string): string =>
  fileURLToPath(new URL(`../../fixtures/image/${name}`, import.meta.url));
const reference = JSON.parse(await readFile(path('reference.json'), 'utf8')) as Reference;
const sha256 = (data: Uint8Array): string => createHash('sha256').update(data).digest('hex');

/** The pictures that the fixture maker gave to Pillow. */
function picture(width: number, height: number, kind: 'smooth' | 'busy'): RgbImage {
  const data = new Uint8Array(width * height * 3);
  for (let i = 0; i < data.length; i++) {
    const c = i % 3;
    const x = Math.floor(i / 3) % width;
    const y = Math.floor(i / 3 / width);
    const smooth = Math.abs(((x * 3 + y * 2 + c * 40) % 510) - 255);
    const busy = x * x * 3 + y * y * 5 + x * y * 7 + c * 61 + Math.floor(x / 4) * Math.floor(y / 8);
    data[i] = kind === 'smooth' ? smooth : busy % 256;
  }
  return { width, height, data };
}

t.test('bicubic resizing equals Pillow in every byte', async (t) => {
  t.ok(reference.resizes.length >= 30);
  for (const { size, kind, sha256: expected } of reference.resizes) {
    const [width, height, newWidth, newHeight] = size;
    const found = resizeBicubic(picture(width, height, kind), newWidth, newHeight);
    t.equal(sha256(found.data), expected, `${kind} ${width}x${height} to ${newWidth}x${newHeight}`);
  }
  t.throws(() => resizeBicubic(picture(2, 2, 'busy'), 0, 4), /width: expected an integer from 1/);
});

t.test('CLIP crops equal transformers and OpenAI in every byte, tensors to 1e-6', async (t) => {
  for (const { size, hf, openai, values } of reference.crops) {
    const image = picture(...size, 'busy');
    const label = size.join('x');
    t.equal(sha256(clipCrop(image).data), hf, `transformers ${label}`);
    t.equal(sha256(clipCrop(image, { rounding: 'openai' }).data), openai, `OpenAI ${label}`);
    const tensor = clipPreprocess([image]);
    t.strictSame(tensor.shape, [1, 224, 224, 3]);
    const data = tensor.dataSync();
    const worst = Math.max(...values.map((value, i) => Math.abs(value - (data[i * 7919] as number))));
    t.ok(worst < 1e-6, `values ${label}: ${worst}`);
    tensor.dispose();
  }
  const odd = reference.crops.some(({ hf, openai }) => hf !== openai);
  t.ok(odd, 'some size tells the two roundings apart');
  t.throws(() => centerCrop(picture(10, 20, 'busy'), 11, 'hf'), /crop/);
  t.match(resizeShortestEdge(picture(30, 20, 'busy'), 7), { width: 10, height: 7 });
});

t.test('files decode to the pixels that Pillow reads', async (t) => {
  for (const [name, expected] of Object.entries(reference.files)) {
    const image = await decodeImage(path(name));
    t.match(image, { width: 12, height: 8 });
    t.equal(sha256(image.data), expected, name);
  }
  const original = (await decodeImage(path('rgb.png'))).data;
  for (const name of ['picture.jpg', 'cmyk.jpg', 'rotated.jpg']) {
    const image = await decodeImage(await readFile(path(name)), { name, orient: false });
    t.match(image, { width: 12, height: 8 }, name);
    t.equal(image.data.length, original.length);
  }
  // Orientation 6: the first row of the file is the right side of the picture.
  const [lying, upright] = [
    await decodeImage(path('rotated.jpg'), { orient: false }),
    await decodeImage(path('rotated.jpg')),
  ];
  t.match(upright, { width: 8, height: 12 });
  const pixel = ({ width, data }: RgbImage, x: number, y: number): number[] => [
    ...data.subarray((y * width + x) * 3, (y * width + x) * 3 + 3),
  ];
  for (const [x, y] of [
    [0, 0],
    [11, 0],
    [5, 3],
  ] as const)
    t.same(pixel(upright, 7 - y, x), pixel(lying, x, y), `pixel ${x}, ${y}`);
});

t.test('images that cannot be used are refused by name', async (t) => {
  await t.rejects(decodeImage(path('truncated.png')), { code: 'corrupt', message: /truncated\.png/ });
  await t.rejects(decodeImage(path('lying.png')), {
    message: /lying\.png: expected at most 67108864 pixels, got 60000 x 60000/,
  });
  await t.rejects(decodeImage(path('rgb.png'), { maxPixels: 95 }), /at most 95 pixels, got 12 x 8/);
  await t.rejects(
    decodeImage(path('animated.gif')),
    /animated\.gif: expected a single picture, got .* 2 frames/,
  );
  t.match(await decodeImage(path('animated.gif'), { frames: 'first' }), { width: 12, height: 8 });
  await t.rejects(decodeImage(path('nothing.png')), { code: 'missing' });
  await t.rejects(decodeImage(new Uint8Array([1, 2, 3]), { name: 'upload' }), {
    code: 'corrupt',
    message: /^upload/,
  });
  const svg = new TextEncoder().encode('<svg xmlns="http://www.w3.org/2000/svg" width="4" height="4"/>');
  await t.rejects(decodeImage(svg, { name: 'drawing' }), { code: 'unsupported', message: /drawing.*svg/ });
});

t.test('preprocessor_config.json: defaults, both spellings, refusals', async (t) => {
  t.match(parsePreprocessorConfig({}), { shortestEdge: 224, crop: 224, rounding: 'hf' });
  t.match(parsePreprocessorConfig({ size: { shortest_edge: 336 }, crop_size: { height: 336, width: 336 } }), {
    shortestEdge: 336,
    crop: 336,
  });
  t.match(parsePreprocessorConfig({ size: 64, crop_size: 64 }), { shortestEdge: 64, crop: 64 });
  t.throws(() => parsePreprocessorConfig({ do_center_crop: false }), /do_center_crop/);
  t.throws(() => parsePreprocessorConfig({ resample: 2 }), /resample.*3 \(bicubic\)/);
  t.throws(() => parsePreprocessorConfig({ crop_size: { height: 3, width: 4 } }), /crop_size/);
  t.throws(() => parsePreprocessorConfig({ image_mean: [1, 2] }), /image_mean/);
  t.throws(() => parsePreprocessorConfig(null), /a JSON object/);
});
