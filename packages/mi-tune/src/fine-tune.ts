/**
 * Self-supervised fine-tuning on the chosen candidates (MI-TUNE, section 3.3): an adapter on the denoiser's attention
 * projections learns to predict the noise of its own best pictures.
 *
 *   loss = mean |eps - eps_theta(sqrt(abar_t) z + sqrt(1 - abar_t) eps, t, p)|^2,   t ~ U{0, ..., T-1}
 *
 * Optionally t starts from a higher timestep: the updates then go where a picture's composition is decided.
 *
 * Step s draws its examples, timesteps and noise from streams (seed, s): a resumed run draws what the uninterrupted one
 * would have drawn.
 */

import type { Adapter } from '@equipoise/adapters';
import { type AdamWParameter, adamW, randomNormal } from '@equipoise/backend';
import { EquipoiseError, invalid, PhiloxSequence, streamId } from '@equipoise/core';
import { forwardFactors, type Schedule } from '@equipoise/diffusion';
import type { TrainingState } from '@equipoise/weights';
import * as tf from '@tensorflow/tfjs-core';
import type { LoadedExample } from './example-set.js';
import { type DiffusionParts, encodePrompts, outputTarget, partsSchedule } from './parts.js';

export interface FineTuneOptions {
  readonly learningRate: number;
  readonly weightDecay: number;
  /** Largest norm of the whole gradient. */
  readonly maxGradientNorm: number;
  /** Examples per forward. */
  readonly batch: number;
  /** Forwards per update. */
  readonly accumulation: number;
  readonly updates: number;
  /** Updates over which the learning rate rises from 0; 0 for a constant one. */
  readonly warmup: number;
  /** What it does then: stays, as published, or falls evenly to 0 after the last update. */
  readonly decay: 'none' | 'linear';
  /** Timesteps below it are not trained; 0 trains all, as published. */
  readonly lowestTimestep: number;
  /** Recompute activations for the gradient: less memory, about a third more time. */
  readonly gradientCheckpointing: boolean;
  readonly seed: number;
}

/** The published settings, with clipping that takes effect. */
export const FINE_TUNE_DEFAULTS: FineTuneOptions = {
  learningRate: 1e-4,
  weightDecay: 1e-2,
  maxGradientNorm: 1,
  batch: 8,
  accumulation: 50,
  updates: 300,
  warmup: 0,
  decay: 'none',
  lowestTimestep: 0,
  gradientCheckpointing: false,
  seed: 0,
};

export interface FineTuneLog {
  readonly step: number;
  readonly loss: number;
  readonly gradientNorm: number;
  readonly learningRate: number;
}

/**
 * Trains adapters on one set: of the denoiser, and where one sits on the text encoder, of both together. Call
 * {@link dispose} when done; the adapters stay.
 */
export class FineTuner {
  readonly #variables: tf.Variable[];
  readonly #moments: { m: tf.Variable; v: tf.Variable }[];
  readonly #schedule: Schedule;
  /** Whether the text states are computed anew in each step, because an adapter changes them. */
  readonly #tunesText: boolean;
  #step = 0;

  constructor(
    readonly parts: DiffusionParts,
    readonly adapters: readonly Adapter[],
    readonly examples: readonly LoadedExample[],
    readonly options: FineTuneOptions,
  ) {
    if (examples.length === 0) throw invalid('examples', 'at least one example', examples.length);
    this.#schedule = partsSchedule(parts);
    const last = this.#schedule.betas.length - 1;
    const { lowestTimestep: lowest } = options;
    if (!(Number.isInteger(lowest) && lowest >= 0 && lowest <= last))
      throw invalid('lowestTimestep', `a whole number from 0 to ${last}`, lowest);
    this.#variables = adapters.flatMap((adapter) => adapter.variables());
    this.#tunesText = adapters.some(({ model }) => model === parts.textEncoder);
    this.#moments = this.#variables.map(({ shape }) => ({ m: zeros(shape), v: zeros(shape) }));
  }

  get step(): number {
    return this.#step;
  }

  /**
   * One optimizer update over batch x accumulation examples.
   *
   * @throws EquipoiseError `numeric` when the loss or a gradient is not finite; the adapters are then unchanged
   */
  async update(): Promise<FineTuneLog> {
    const { accumulation, batch, weightDecay, maxGradientNorm: maxNorm } = this.options;
    const order = this.#draw(batch * accumulation);
    let sums: tf.Tensor[] = [];
    const losses: tf.Tensor[] = [];
    for (let micro = 0; micro < accumulation; micro++) {
      const rows = order.slice(micro * batch, (micro + 1) * batch);
      const { value, grads } = tf.variableGrads(() => this.#loss(rows, micro * batch), this.#variables);
      const gradients = this.#variables.map(({ name, shape }) => grads[name] ?? tf.zeros(shape));
      const next =
        sums.length === 0
          ? gradients
          : tf.tidy(() => gradients.map((gradient, i) => tf.add(sums[i] as tf.Tensor, gradient)));
      if (sums.length > 0) tf.dispose([...sums, ...gradients]);
      sums = next;
      losses.push(value);
    }
    const finite = tf.tidy(() =>
      tf.stack([
        tf.div(tf.addN(losses), accumulation),
        tf.div(tf.sqrt(tf.addN(sums.map((g) => tf.sum(tf.square(g))))), accumulation),
      ]),
    );
    const [loss, gradientNorm] = (await finite.data()) as unknown as [number, number];
    tf.dispose([finite, ...losses]);
    if (!Number.isFinite(loss) || !Number.isFinite(gradientNorm)) {
      tf.dispose(sums);
      throw new EquipoiseError(
        'numeric',
        `fine-tuning: loss ${loss}, gradient norm ${gradientNorm} at step ${this.#step + 1}`,
        { hints: ['Go on from the last checkpoint with a lower --learning-rate, or in f32.'] },
      );
    }
    const learningRate = learningRateOf(this.options, this.#step);
    const parameters: AdamWParameter[] = this.#variables.map((parameter, i) => ({
      parameter,
      gradient: sums[i] as tf.Tensor,
      ...(this.#moments[i] as { m: tf.Variable; v: tf.Variable }),
    }));
    adamW(parameters, {
      step: this.#step + 1,
      learningRate,
      weightDecay,
      maxNorm,
      gradientScale: 1 / accumulation,
    }).dispose();
    tf.dispose(sums);
    for (const adapter of this.adapters) adapter.changed();
    this.#step++;
    return { step: this.#step, loss, gradientNorm, learningRate };
  }

  /** Examples of this step: epochs shuffled by seed, read on without gaps. */
  #draw(count: number): number[] {
    const size = this.examples.length;
    const rows: number[] = [];
    for (let at = this.#step * count; rows.length < count; ) {
      const epoch = Math.floor(at / size);
      const order = new PhiloxSequence(this.options.seed, streamId('fine-tune', 'shuffle', epoch)).shuffle(
        Array.from({ length: size }, (_, i) => i),
      );
      const part = order.slice(at % size, (at % size) + count - rows.length);
      rows.push(...part);
      at += part.length;
    }
    return rows;
  }

  /** Mean squared error of the prediction over a micro-batch. */
  #loss(rows: readonly number[], offset: number): tf.Scalar {
    const { parts, options, examples } = this;
    const [h, w, c] = parts.latentShape;
    const shape: [number, number, number, number] = [rows.length, h, w, c];
    const total = this.#schedule.betas.length;
    const times = new PhiloxSequence(
      options.seed,
      streamId('fine-tune', 'timesteps', this.#step),
      offset * 2,
    );
    const lowest = options.lowestTimestep;
    const timesteps = rows.map(() => lowest + times.int(total - lowest));
    const noise = randomNormal<tf.Rank.R4>(shape, {
      seed: options.seed,
      stream: streamId('fine-tune', 'noise', this.#step),
      offset: offset * h * w * c,
    });
    const clean = tf.tensor4d(
      concatenate(rows.map((row) => (examples[row] as LoadedExample).latents)),
      shape,
    );
    const context = this.#context(rows.map((row) => examples[row] as LoadedExample));
    const factors = timesteps.map((t) => forwardFactors(this.#schedule, t));
    const column = (values: number[]): tf.Tensor4D => tf.tensor4d(values, [rows.length, 1, 1, 1]);
    const [signal, spread] = [column(factors.map((f) => f.signal)), column(factors.map((f) => f.noise))];
    const noisy = tf.add(tf.mul(signal, clean), tf.mul(spread, noise)) as tf.Tensor4D;
    const target = outputTarget(parts.scheduler.predictionType, { signal, spread, clean, noise });
    const prediction = parts.unet.forward(noisy, timesteps, context, {
      recompute: options.gradientCheckpointing,
    });
    return tf.mean(tf.squaredDifference(prediction, target)) as tf.Scalar;
  }

  /** Text states of examples [B, L, C]: as stored with the set, or as the tuned text encoder makes them. */
  #context(examples: readonly LoadedExample[]): tf.Tensor3D {
    if (this.#tunesText)
      return encodePrompts(
        this.parts,
        examples.map(({ prompt }) => prompt),
      );
    const width = this.parts.unet.config.cross_attention_dim;
    const length = (examples[0] as LoadedExample).states.length / width;
    return tf.tensor3d(concatenate(examples.map(({ states }) => states)), [examples.length, length, width]);
  }

  async state(): Promise<TrainingState> {
    const tensors = [];
    for (const [i, variable] of this.#variables.entries()) {
      const { m, v } = this.#moments[i] as { m: tf.Variable; v: tf.Variable };
      const [value, first, second] = await Promise.all(
        [variable, m, v].map(async (x) => Float32Array.from(await x.data())),
      );
      tensors.push({ value: value as Float32Array, m: first as Float32Array, v: second as Float32Array });
    }
    return { position: this.#step, tensors };
  }

  /** @throws EquipoiseError `conflict` when the state belongs to another adapter */
  restore({ position, tensors }: TrainingState): void {
    if (tensors.length !== this.#variables.length)
      throw invalid('state', `${this.#variables.length} tensors`, tensors.length, { code: 'conflict' });
    for (const [i, { value, m, v }] of tensors.entries()) {
      const variable = this.#variables[i] as tf.Variable;
      const moments = this.#moments[i] as { m: tf.Variable; v: tf.Variable };
      for (const [target, values] of [
        [variable, value],
        [moments.m, m],
        [moments.v, v],
      ] as const) {
        if (values.length !== target.size)
          throw invalid(`state of tensor ${i}`, `${target.size} numbers`, values.length, {
            code: 'conflict',
          });
        tf.tidy(() => target.assign(tf.tensor(values, target.shape)));
      }
    }
    for (const adapter of this.adapters) adapter.changed();
    this.#step = position;
  }

  dispose(): void {
    for (const { m, v } of this.#moments) tf.dispose([m, v]);
  }
}

/** Rate of the update after `step` updates. */
function learningRateOf({ learningRate, warmup, decay, updates }: FineTuneOptions, step: number): number {
  const rise = warmup > 0 ? Math.min(1, (step + 1) / warmup) : 1;
  return learningRate * (decay === 'linear' ? Math.min(rise, 1 - step / updates) : rise);
}

function zeros(shape: number[]): tf.Variable {
  return tf.tidy(() => tf.variable(tf.zeros(shape), true));
}

function concatenate(parts: readonly Float32Array[]): Float32Array {
  const out = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}
