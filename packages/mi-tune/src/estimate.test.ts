/** The estimator for existing images: unbiased within its own confidence, consistent with its map, resolved by prompt. */
import { randomNormal, useEngine } from '@equipoise/backend';
import { forwardFactors } from '@equipoise/diffusion';
import * as tf from '@tensorflow/tfjs-core';
import t from 'tap';
import { encodePrompts, estimateMi, heatMap, miWeight, partsSchedule, studentQuantile } from './index.js';
import { smallParts } from './testing.js';

await useEngine('equipoise-cpu');
const parts = await smallParts();
const schedule = partsSchedule(parts);
const [h, w, c] = parts.latentShape;
const latents = randomNormal<tf.Rank.R4>([2, h, w, c], { seed: 5, stream: 1 });
const prompts = ['a red circle', 'a photo of a cat'];

/** Every timestep that counts, many noises each: what the estimator estimates, for the first image and prompt. */
async function quadrature(noises: number): Promise<number> {
  const contexts = encodePrompts(parts, ['', prompts[0] as string]);
  let total = 0;
  const timesteps = Array.from({ length: schedule.betas.length - 51 }, (_, i) => 51 + i);
  for (let start = 0; start < timesteps.length; start += 73) {
    const chunk = timesteps.slice(start, start + 73);
    for (let k = 0; k < noises; k++) {
      const sum = tf.tidy(() => {
        const clean = tf.slice(latents, [0, 0, 0, 0], [1, h, w, c]);
        const noise = randomNormal<tf.Rank.R4>([chunk.length, h, w, c], {
          seed: 99,
          stream: k,
          offset: start * h * w * c,
        });
        const column = (values: number[]): tf.Tensor4D => tf.tensor4d(values, [chunk.length, 1, 1, 1]);
        const factors = chunk.map((step) => forwardFactors(schedule, step));
        const noisy = tf.add(
          tf.mul(clean, column(factors.map((f) => f.signal))),
          tf.mul(noise, column(factors.map((f) => f.noise))),
        ) as tf.Tensor4D;
        const predict = (row: number): tf.Tensor4D =>
          parts.unet.forward(
            noisy,
            chunk,
            tf.tile(tf.slice(contexts, [row, 0, 0], [1, -1, -1]), [chunk.length, 1, 1]),
          );
        return tf.sum(
          tf.mul(
            tf.sum(tf.square(tf.sub(predict(1), predict(0))), [1, 2, 3]),
            tf.tensor1d(chunk.map((step) => miWeight(schedule, step))),
          ),
        );
      });
      total += (await sum.data())[0] as number;
      sum.dispose();
    }
  }
  contexts.dispose();
  return total / noises / timesteps.length;
}

t.test('the 95 % interval holds the dense quadrature in at least 93 of 100 trials', async (t) => {
  const truth = await quadrature(8);
  const image = tf.slice(latents, [0, 0, 0, 0], [1, h, w, c]);
  let [inside, mean] = [0, 0];
  for (let seed = 0; seed < 100; seed++) {
    const [[estimate]] = (await estimateMi(parts, image, [prompts[0] as string], {
      seed,
      replicates: 8,
      strata: 6,
      batch: 96,
    })) as unknown as [[{ mi: number; interval: [number, number] }]];
    mean += estimate.mi / 100;
    if (estimate.interval[0] <= truth && truth <= estimate.interval[1]) inside++;
  }
  t.ok(inside >= 93, `${inside} of 100 intervals hold ${truth}`);
  t.ok(Math.abs(mean / truth - 1) < 0.02, `mean ${mean}, quadrature ${truth}`);
});

t.test('images x prompts, reproducible, with a curve', async (t) => {
  const options = { seed: 3, replicates: 2, strata: 4 };
  const matrix = await estimateMi(parts, latents, prompts, options);
  t.equal(matrix.length, 2);
  t.ok(
    matrix.every(
      (row) =>
        row.length === 2 &&
        row.every(
          ({ mi, standardError, effectiveSamples }) => mi > 0 && standardError > 0 && effectiveSamples > 0,
        ),
    ),
  );
  const [first] = matrix as [(typeof matrix)[number]];
  t.ok(
    first[0]?.curve.every(
      ({ timestep, value }, i, all) =>
        timestep > 50 && value >= 0 && (i === 0 || timestep > (all[i - 1]?.timestep ?? 0)),
    ),
  );
  // Another batch size only regroups the same draws.
  const again = await estimateMi(parts, latents, prompts, { ...options, batch: 5 });
  again.forEach((row, i) =>
    row.forEach(({ mi }, p) => t.ok(Math.abs(mi / (matrix[i]?.[p]?.mi ?? 0) - 1) < 1e-5)),
  );
});

t.test('information maps sum to the estimate, and their pictures', async (t) => {
  const options = { seed: 3, replicates: 2, strata: 4 };
  const matrix = await estimateMi(parts, latents, prompts, { ...options, maps: true });
  const plain = await estimateMi(parts, latents, prompts, options);
  for (const [i, row] of matrix.entries())
    for (const [p, { mi, map }] of row.entries()) {
      t.equal(mi, plain[i]?.[p]?.mi, 'maps change no estimate');
      t.equal(map?.values.length, h * w);
      t.ok(
        Math.abs((map?.values ?? new Float32Array()).reduce((sum, value) => sum + value, 0) / mi - 1) < 1e-4,
      );
    }
  const map = { values: Float32Array.of(0, 1, 2, 4), height: 2, width: 2 };
  const heat = heatMap(map, { width: 4, height: 4 });
  const pixel = (x: number, y: number): number[] => [
    ...heat.data.subarray((y * 4 + x) * 3, (y * 4 + x) * 3 + 3),
  ];
  const brightness = (x: number, y: number): number => pixel(x, y).reduce((sum, value) => sum + value, 0);
  t.same(pixel(0, 0), [0, 0, 0], 'nothing is black');
  t.ok(
    brightness(0, 0) < brightness(3, 0) &&
      brightness(3, 0) < brightness(0, 3) &&
      brightness(0, 3) < brightness(3, 3),
  );
  t.same(
    pixel(3, 3),
    pixel(3, 3).map(() => 255),
    'the largest value is white',
  );
  const picture = { width: 4, height: 4, data: new Uint8Array(48).fill(200) };
  const over = heatMap(map, picture, { over: picture });
  t.not(over.data[0], heat.data[0]);
  const scaled = heatMap(map, picture, { largest: 8 });
  t.ok((scaled.data.at(-1) as number) < 255, 'one scale for several maps');
  const flat = heatMap({ ...map, values: new Float32Array(4) }, picture);
  t.ok(flat.data.every((value) => value === 0));
});

t.test("quantiles of Student's t", (t) => {
  // Tabulated: 12.7062, 4.3027, 2.3646, 1.9623 for 1, 2, 7 and 1000 degrees of freedom at 97.5 %.
  for (const [freedom, value] of [
    [1, 12.7062],
    [2, 4.30265],
    [7, 2.36462],
    [1000, 1.96234],
  ] as const)
    t.ok(Math.abs(studentQuantile(0.975, freedom) - value) < 1e-4);
  t.throws(() => studentQuantile(1, 3), /p: expected/);
  t.end();
});

t.test('bad settings are refused by name', async (t) => {
  await t.rejects(
    estimateMi(parts, latents, prompts, { seed: 0, replicates: 1 }),
    /replicates: expected a whole number of at least 2, got 1/,
  );
  await t.rejects(
    estimateMi(parts, latents, prompts, { seed: 0, strata: 1000 }),
    /strata: expected a whole number from 1 to 949/,
  );
});
