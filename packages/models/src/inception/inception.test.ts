import { useEngine } from '@equipoise/backend';
import { fixturesOf, requireClose } from '@equipoise/testing';
import { memorySource, type TensorSource } from '@equipoise/weights';
import * as tf from '@tensorflow/tfjs-core';
import t from 'tap';
import { INCEPTION_RESIZES, InceptionV3, inceptionPixels, type RgbImage } from '../index.js';

interface Case {
  readonly width: number;
  readonly height: number;
  readonly [resize: string]: unknown;
}

interface Expected {
  readonly pixels: number[];
  readonly features: number[];
  readonly norm: number;
}

// tools/parity/make_inception_fixtures.py: weights and pictures are formulas.
const { tensors, cases } = fixturesOf(import.meta.url, '../../fixtures').json<{
  tensors: Record<string, number[]>;
  cases: Case[];
}>('inception.json');

/** The hash of name and index that the fixture's weights are made of, as numbers in [0, 1). */
function uniform(name: string, count: number): Float64Array {
  let salt = 2166136261;
  for (const byte of new TextEncoder().encode(name)) salt = Math.imul(salt ^ byte, 16777619) >>> 0;
  return Float64Array.from({ length: count }, (_, i) => {
    let x = (Math.imul(i, 2654435761) + salt) >>> 0;
    x = Math.imul(x ^ (x >>> 16), 2246822507) >>> 0;
    x = Math.imul(x ^ (x >>> 13), 3266489909) >>> 0;
    return ((x ^ (x >>> 16)) >>> 0) / 2 ** 32;
  });
}

function weight(name: string, shape = tensors[name]): TensorSource {
  if (shape === undefined) throw new Error(`no tensor ${name}`);
  const count = shape.reduce((a, b) => a * b, 1);
  const bound = Math.sqrt(6 / (count / (shape[0] as number)));
  const values = Float32Array.from(uniform(name, count), (u) => {
    if (name.endsWith('conv.weight')) return (2 * u - 1) * bound;
    return /bn\.weight$|running_var$/.test(name) ? 0.5 + u : 0.2 * u - 0.1;
  });
  return memorySource(name, 'F32', shape, new Uint8Array(values.buffer), 'formula');
}

function picture(width: number, height: number): RgbImage {
  const data = new Uint8Array(width * height * 3);
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++)
      for (let c = 0; c < 3; c++)
        data[(y * width + x) * 3 + c] = (x * x * 3 + y * y * 5 + x * y * 7 + c * 61) % 256;
  return { width, height, data };
}

t.test('pixels and pooled features are those of the reference, for both ways to resize', async (t) => {
  await useEngine('equipoise-cpu');
  const before = tf.memory().numTensors;
  const asked: string[] = [];
  const model = await InceptionV3.load({
    get: (name) => {
      asked.push(name);
      return weight(name);
    },
  });
  t.same(asked.sort(), Object.keys(tensors).sort(), 'every tensor of the reference is used once');
  for (const { width, height, ...expected } of cases) {
    for (const resize of INCEPTION_RESIZES) {
      const { pixels, features, norm } = expected[resize] as Expected;
      const name = `${resize} ${width}x${height}`;
      const input = inceptionPixels([picture(width, height)], resize);
      const seen = await input.data<'float32'>();
      input.dispose();
      requireClose(
        `${name} pixels`,
        seen.filter((_, i) => i % 997 === 0),
        Float32Array.from(pixels),
        {
          // Bilinear positions are single precision on both sides, and differ in their last bit.
          absolute: resize === 'clean' ? 2e-6 : 1e-4,
        },
      );
      const output = model.features([picture(width, height)], resize);
      t.same(output.shape, [1, 2048]);
      const values = await output.data<'float32'>();
      output.dispose();
      requireClose(
        `${name} features`,
        values.filter((_, i) => i % 8 === 0),
        Float32Array.from(features),
        {
          relativeNorm: 1e-4,
        },
      );
      const found = Math.hypot(...values);
      t.ok(Math.abs(found / norm - 1) < 1e-4, `${name}: norm ${found}, expected ${norm}`);
    }
  }
  model.dispose();
  t.equal(tf.memory().numTensors, before, 'nothing leaks');
});

t.test('weights that do not fit are refused by name', async (t) => {
  await useEngine('equipoise-cpu');
  await t.rejects(
    InceptionV3.load({
      get: (name) => weight(name, name === 'Conv2d_2a_3x3.bn.bias' ? [31] : tensors[name]),
    }),
    { message: /Conv2d_2a_3x3\.bn\.bias: expected shape \[32\], got \[31\]/ },
  );
  t.throws(() => inceptionPixels([], 'clean'), /images: expected at least one/);
});
