import { defineOptions, invalid, option, z } from '@equipoise/core';
import { estimateMi, openParts, WEIGHTINGS } from '@equipoise/mi-tune';
import { decodeImage } from '@equipoise/models';
import * as tf from '@tensorflow/tfjs-core';
import { defineCommand } from '../../command.js';
import { engineOptions, openEngine } from '../../engine-options.js';

const options = defineOptions('mi estimate', {
  images: option(z.array(z.string()).min(1), 'Image files, of the size the model draws.'),
  model: option(z.string(), 'Pipeline folder (diffusers).', { placeholder: 'folder' }),
  prompt: option(z.array(z.string()).min(1), 'Prompts; every image is scored under each.', { whole: true }),
  replicates: option(
    z.int().min(2).default(4),
    'Independent estimates; their spread gives the standard error.',
  ),
  strata: option(
    z.int().min(1).default(16),
    'Parts into which the timesteps are split, with one draw in each.',
  ),
  antithetic: option(z.boolean().default(true), 'Use every noise with both signs.'),
  weighting: option(z.enum(WEIGHTINGS).default('paper'), 'Weight of a timestep.'),
  seed: option(z.int().min(0).default(0), 'Seed of timesteps and noise.'),
  curve: option(z.boolean().default(false), 'Print the terms per timestep too.'),
  ...engineOptions,
});

export const miEstimate = defineCommand({
  options,
  positionals: ['images'],
  description:
    'Estimates the point-wise mutual information between existing images and prompts, in nats, with standard errors.',
  examples: ['equipoise mi estimate cat.png dog.png --model sd/ --prompt "a cat" --prompt "a dog"'],
  async run({ images: files, model, prompt, curve, engine, precision, ...settings }, context) {
    await openEngine({ engine, precision });
    const { parts, pipeline } = await openParts(model, context);
    const [height, width] = parts.latentShape.map((side) => side * pipeline.parts.vae.downscale) as [
      number,
      number,
      number,
    ];
    const results = [];
    for (const file of files) {
      const image = await decodeImage(file);
      if (image.width !== width || image.height !== height)
        throw invalid(
          file,
          `${width} x ${height} pixels, the size the model draws`,
          `${image.width} x ${image.height}`,
        );
      const latents = tf.tidy(() => {
        const pixels = tf.sub(
          tf.div(tf.tensor4d(Float32Array.from(image.data), [1, height, width, 3]), 127.5),
          1,
        ) as tf.Tensor4D;
        return pipeline.parts.vae.toModelLatents(pipeline.parts.vae.encode(pixels).mode());
      });
      const [row = []] = await estimateMi(parts, latents, prompt, settings, context);
      latents.dispose();
      for (const [p, estimate] of row.entries()) {
        const { curve: terms, ...numbers } = estimate;
        results.push({ image: file, prompt: prompt[p], ...numbers, ...(curve && { curve: terms }) });
      }
    }
    context.print(JSON.stringify(results, null, 2));
    return 0;
  },
});
