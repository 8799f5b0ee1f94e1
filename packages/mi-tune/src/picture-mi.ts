/**
 * The mutual information of finished pictures with their own prompts, as a score to choose by: each picture is encoded,
 * noised at stratified timesteps, and its terms are averaged. All pictures see the same timesteps and noise, so that what
 * the draws leave uncertain is largely common to the candidates of a prompt and does not decide between them.
 */
import { invalid, type JobContext, sha256Json, throwIfCancelled } from '@equipoise/core';
import type { Schedule } from '@equipoise/diffusion';
import type { RgbImage } from '@equipoise/models';
import * as tf from '@tensorflow/tfjs-core';
import type { MiWeightOptions } from './mi-weight.js';
import { type DiffusionParts, encodePrompts, partsSchedule } from './parts.js';
import type { Encode } from './pictures.js';
import type { AlignmentScorer } from './scorer.js';
import { type Draw, type Estimator, planDraws, type TermOptions, termFields } from './terms.js';

export interface PictureMiOptions extends MiWeightOptions {
  /** Form of a term. Default `standard`: it tells candidates apart better than the orthogonal one. */
  readonly estimator?: Estimator;
  /** Timesteps, each with one noise. Default 16. */
  readonly draws?: number;
  /** Of timesteps and noise. Default 0. */
  readonly seed?: number;
  /** Noisy latents in one forward; changes no score where the engine computes a row whatever its batch. Default 64. */
  readonly batch?: number;
}

/** Column of the tables. */
export const PICTURE_MI = 'picture_mi';

/**
 * Defaults of the score. The upper half of the timesteps is where the noisy latent no longer shows what the picture
 * contains, so that what the prompt adds is its content; below, both predictions read it off the latent.
 */
export const PICTURE_MI_DEFAULTS = {
  estimator: 'standard',
  draws: 16,
  truncation: 500,
  weighting: 'paper',
  seed: 0,
} as const satisfies PictureMiOptions;

const BATCH = 64;

/**
 * The model's own judgement of finished pictures, with whatever adapter is on it at the time of scoring.
 *
 * @throws EquipoiseError `invalid` for settings that allow no plan of draws
 */
export function pictureMiScorer(
  parts: DiffusionParts,
  encode: Encode,
  { batch = BATCH, ...given }: PictureMiOptions = {},
): AlignmentScorer {
  const options = { ...PICTURE_MI_DEFAULTS, ...given };
  if (!Number.isInteger(options.draws) || options.draws < 1)
    throw invalid('draws', 'a positive whole number', options.draws);
  if (!Number.isInteger(batch) || batch < 1) throw invalid('batch', 'a positive whole number', batch);
  const schedule = partsSchedule(parts);
  const draws = planDraws(schedule, { ...options, strata: options.draws, replicates: 1, antithetic: false });
  return {
    name: PICTURE_MI,
    hash: sha256Json({ model: parts.hash, ...options, version: 1 }),
    async score(images, prompts, context = {}) {
      const distinct = [...new Set(prompts)];
      const rows = prompts.map((prompt) => distinct.indexOf(prompt) + 1);
      const states = tf.tidy(() => encodePrompts(parts, ['', ...distinct]));
      const latents = encodeAll(images, encode);
      try {
        return await scoreLatents({ parts, schedule, draws, batch, options }, latents, states, rows, context);
      } finally {
        tf.dispose([states, latents]);
      }
    },
  };
}

function encodeAll(images: readonly RgbImage[], encode: Encode): tf.Tensor4D {
  return tf.tidy(() =>
    tf.concat(
      images.map((image, i) => encode(image, `picture ${i}`)),
      0,
    ),
  );
}

interface Scoring {
  readonly parts: DiffusionParts;
  readonly schedule: Schedule;
  readonly draws: readonly Draw[];
  readonly batch: number;
  readonly options: TermOptions;
}

/** Pictures times draws in batches, draw by draw, so that a batch holds few distinct noises. */
async function scoreLatents(
  { parts, schedule, draws, batch, options }: Scoring,
  latents: tf.Tensor4D,
  states: tf.Tensor3D,
  promptRows: readonly number[],
  { signal }: JobContext,
): Promise<Float64Array> {
  const count = promptRows.length;
  const units = draws.flatMap((draw) => promptRows.map((row, picture) => ({ draw, row, picture })));
  const scores = new Float64Array(count);
  for (let start = 0; start < units.length; start += batch) {
    throwIfCancelled(signal, 'picture MI');
    const own = units.slice(start, start + batch);
    // A product with a single row may be summed in another order than with more: no batch has only one.
    const part = own.length === 1 ? [...own, ...own] : own;
    const gather = <T extends tf.Tensor>(from: T, rows: number[]): T =>
      tf.gather(from, tf.tensor1d(rows, 'int32')) as T;
    const sums = tf.tidy(() => {
      const fields = termFields(
        parts,
        schedule,
        {
          clean: gather(
            latents,
            part.map(({ picture }) => picture),
          ),
          draws: part.map(({ draw }) => draw),
          uncond: tf.slice(states, [0, 0, 0], [1, -1, -1]),
          conds: [
            gather(
              states,
              part.map(({ row }) => row),
            ),
          ],
        },
        options,
      );
      return tf.sum(fields, [0, 2, 3]);
    });
    const terms = await sums.data();
    sums.dispose();
    for (const [i, { draw, picture }] of own.entries())
      scores[picture] = (scores[picture] as number) + draw.share * (terms[i] as number);
  }
  return scores;
}
