/** The estimator for existing images: unbiased within its own confidence, consistent with its map, resolved by prompt. */
import { randomNormal, useEngine } from '@equipoise/backend';
import { PhiloxStream, streamId } from '@equipoise/core';
import { forwardFactors } from '@equipoise/diffusion';
import type { RgbImage } from '@equipoise/models';
import * as tf from '@tensorflow/tfjs-core';
import t from 'tap';
import {
  ESTIMATORS,
  encodePrompts,
  encoderOf,
  estimateMi,
  heatMap,
  type MiEstimate,
  miWeight,
  partsSchedule,
  pictureMiScorer,
  studentQuantile,
} from './index.js';
import { smallPipeline } from './testing.js';

await useEngine('equipoise-cpu');
const { parts, pipeline } = await smallPipeline();
const schedule = partsSchedule(parts);
const [h, w, c] = parts.latentShape;
const latents = randomNormal<tf.Rank.R4>([2, h, w, c], { seed: 5, stream: 1 });
const prompts = ['a red circle', 'a photo of a cat'];

/**
 * Every timestep that counts, many noises each, with both signs: what the estimators estimate, for the first image and prompt; the errors
 * of the standard one as they stand in its definition.
 */
async function quadrature(noises: number): Promise<{ orthogonal: number; standard: number }> {
  const contexts = encodePrompts(parts, ['', prompts[0] as string]);
  const totals = { orthogonal: 0, standard: 0 };
  const timesteps = Array.from({ length: schedule.betas.length - 51 }, (_, i) => 51 + i);
  for (let start = 0; start < timesteps.length; start += 73) {
    const chunk = timesteps.slice(start, start + 73);
    for (let k = 0; k < noises; k++) {
      const [stream, sign] = [Math.floor(k / 2), k % 2 === 0 ? 1 : -1];
      const sums = tf.tidy(() => {
        const clean = tf.slice(latents, [0, 0, 0, 0], [1, h, w, c]);
        const drawn = { seed: 99, stream, offset: start * h * w * c };
        const noise = tf.mul(sign, randomNormal([chunk.length, h, w, c], drawn)) as tf.Tensor4D;
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
        const [uncond, cond] = [predict(0), predict(1)];
        const weights = tf.tensor1d(chunk.map((step) => miWeight(schedule, step)));
        const distance = (a: tf.Tensor, b: tf.Tensor): tf.Tensor =>
          tf.sum(tf.mul(weights, tf.sum(tf.squaredDifference(a, b), [1, 2, 3])));
        return tf.stack([distance(cond, uncond), tf.sub(distance(uncond, noise), distance(cond, noise))]);
      });
      const [orthogonal, standard] = (await sums.data()) as unknown as [number, number];
      sums.dispose();
      totals.orthogonal += orthogonal / noises / timesteps.length;
      totals.standard += standard / noises / timesteps.length;
    }
  }
  contexts.dispose();
  return totals;
}

const truths = await quadrature(8);

for (const estimator of ESTIMATORS)
  t.test(
    `the 95 % interval holds the dense quadrature in at least 93 of 100 trials: ${estimator}`,
    async (t) => {
      const truth = truths[estimator];
      const image = tf.slice(latents, [0, 0, 0, 0], [1, h, w, c]);
      const means: number[] = [];
      let inside = 0;
      for (let seed = 0; seed < 100; seed++) {
        const [[estimate]] = (await estimateMi(parts, image, [prompts[0] as string], {
          seed,
          estimator,
          replicates: 8,
          strata: 6,
          batch: 96,
        })) as unknown as [[{ mi: number; interval: [number, number] }]];
        means.push(estimate.mi);
        if (estimate.interval[0] <= truth && truth <= estimate.interval[1]) inside++;
      }
      const mean = means.reduce((sum, value) => sum + value, 0) / means.length;
      const spread = Math.sqrt(means.reduce((sum, value) => sum + (value - mean) ** 2, 0) / 99 / 100);
      t.ok(inside >= 93, `${inside} of 100 intervals hold ${truth}`);
      t.ok(Math.abs(mean - truth) < 4 * spread, `mean ${mean} +- ${spread}, quadrature ${truth}`);
    },
  );

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

t.test('maps of the standard estimator sum to it and show what is below 0 in blue', async (t) => {
  const options = { seed: 3, replicates: 2, strata: 4, estimator: 'standard', maps: true } as const;
  const [[{ mi, map, curve }]] = (await estimateMi(parts, latents, prompts, options)) as unknown as [
    [{ mi: number; map: { values: Float32Array }; curve: { value: number }[] }],
  ];
  t.ok(Math.abs(map.values.reduce((sum, value) => sum + value, 0) - mi) < 1e-4 * Math.abs(mi));
  t.ok(map.values.some((value) => value < 0) && curve.some(({ value }) => value > 0), 'terms of both signs');
  const heat = heatMap(
    { values: Float32Array.of(-1, 0, 0.5, 2), height: 2, width: 2 },
    { width: 2, height: 2 },
  );
  const pixels = [0, 3, 6, 9].map((at) => [...heat.data.subarray(at, at + 3)]);
  t.same(pixels, [
    [0, 128, 255],
    [0, 0, 0],
    [191, 0, 0],
    [255, 255, 255],
  ]);
});

t.test('the score of finished pictures: the standard estimate, whatever the batch', async (t) => {
  const decoded = await pipeline.decode(latents);
  const images = [...decoded, ...decoded.slice(0, 1)];
  const own = [...prompts, prompts[1] as string];
  const encode = encoderOf(pipeline, parts);
  const options = { draws: 5, truncation: 300, seed: 4 };
  const scores = await pictureMiScorer(parts, encode, options).score(images, own);
  t.equal(scores.length, 3);
  t.not(scores[0], scores[2], 'another prompt, another score');
  for (const batch of [1, 4, 7])
    t.same(
      await pictureMiScorer(parts, encode, { ...options, batch }).score(images, own),
      scores,
      `${batch} rows`,
    );
  for (const [i, image] of images.entries())
    t.same(
      await pictureMiScorer(parts, encode, options).score([image], [own[i] as string]),
      [scores[i]],
      'alone as among others',
    );
  // Its draws are the first replicate's of an estimate without the other signs.
  const latent = encode(decoded[0] as RgbImage, 'picture');
  const plan = { seed: 4, strata: 5, truncation: 300, antithetic: false, replicates: 2 };
  for (const estimator of ESTIMATORS) {
    const [[estimate]] = (await estimateMi(parts, latent, [own[0] as string], { ...plan, estimator })) as [
      [MiEstimate],
    ];
    const drawn = new PhiloxStream(4, streamId('mi', 'timesteps', 0));
    const timesteps = Array.from({ length: 5 }, (_, s) => {
      const [from, to] = [Math.floor((s * 699) / 5), Math.floor(((s + 1) * 699) / 5)];
      return { timestep: 301 + from + Math.floor(drawn.uniform(s) * (to - from)), share: (to - from) / 699 };
    });
    const expected = timesteps.reduce(
      (sum, { timestep, share }) =>
        sum + share * (estimate.curve.find((point) => point.timestep === timestep)?.value as number),
      0,
    );
    const [score] = (await pictureMiScorer(parts, encode, { ...options, estimator }).score(
      decoded.slice(0, 1),
      own.slice(0, 1),
    )) as [number];
    t.ok(Math.abs(score / expected - 1) < 1e-5, `${estimator}: ${score}, from the curve ${expected}`);
  }
  const scorer = (changes: object): string => pictureMiScorer(parts, encode, { ...options, ...changes }).hash;
  t.equal(scorer({ batch: 3 }), scorer({}));
  for (const change of [{ draws: 6 }, { truncation: 301 }, { estimator: 'orthogonal' }, { seed: 5 }])
    t.not(scorer(change), scorer({}), Object.keys(change)[0] as string);
  t.throws(
    () => pictureMiScorer(parts, encode, { draws: 0 }),
    /draws: expected a positive whole number, got 0/,
  );
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
