/** The sampling loop: from noise to latents, with everything a caller may want to see on the way. */
import { type Recorded, recordOnRepeat } from '@equipoise/backend';
import { EquipoiseError, invalid, type JobContext, ProgressCounter, throwIfCancelled } from '@equipoise/core';
import type { AddedConditions, CrossAttentionCache, UNet2DConditionModel } from '@equipoise/models';
import * as tf from '@tensorflow/tfjs-core';
import type { Sampler, SamplerStep } from '../samplers/index.js';
import { nextState, type Predictions, type StepResult, type TensorState, takeStep } from './guidance.js';

/** What the denoiser is conditioned on; N images. */
export interface Conditioning {
  /** [N, L, C] */
  readonly cond: tf.Tensor3D;
  /** Same shape; null when neither guidance nor the difference of predictions is wanted. */
  readonly uncond: tf.Tensor3D | null;
  /** Stable Diffusion XL: pooled text [N, P] for either side, and size ids of each image. */
  readonly added?: {
    readonly cond: tf.Tensor2D;
    readonly uncond: tf.Tensor2D | null;
    readonly timeIds: readonly (readonly number[])[];
  };
  /**
   * Which prompt each image has: images with equal numbers have equal rows above. Parts of the batch with the
   * same prompts in the same places then share their projected texts, which for many images of one prompt is
   * most of the memory. Default: all different.
   */
  readonly promptIndex?: readonly number[];
}

/** Told after every step. Tensors live until the listener returns, or the promise it returns resolves. */
export interface StepEvent {
  /** Model call, from 0. */
  readonly index: number;
  readonly total: number;
  readonly timestep: number;
  readonly step: SamplerStep;
  /** Latents before and after the step [N, h, w, C]. */
  readonly before: tf.Tensor4D;
  readonly latents: tf.Tensor4D;
  /** The raw predictions, before guidance. */
  readonly cond: tf.Tensor4D;
  readonly uncond: tf.Tensor4D | null;
  /** The fused sum of this step for each image; null without {@link DenoiseOptions.miWeight}. */
  readonly mi: Float32Array | null;
}

export interface DenoiseOptions extends JobContext {
  readonly unet: UNet2DConditionModel;
  readonly sampler: Sampler;
  readonly conditioning: Conditioning;
  /** Guidance scale; used when there is an unconditional side. */
  readonly guidance: number;
  readonly guidanceRescale?: number;
  /** Unit normal noise of a step [N, h, w, C]; called when the sampler draws. This function frees it. */
  readonly noise: (index: number) => tf.Tensor4D;
  /** Images that pass through the denoiser together. Default: all. */
  readonly unetBatch?: number;
  /**
   * Weight w(t) of a step's sum over the latent of (eps_cond - eps_uncond)^2, which the fused kernel makes
   * in the same pass (MI-TUNE, Algorithm 2). In terms of eps whatever the model predicts.
   */
  readonly miWeight?: (timestep: number, index: number) => number;
  /**
   * The unconditional output of the first model call [N, h, w, C], where the caller has it already: with one seed for
   * many prompts it is the same for all of them. Not freed.
   */
  readonly firstUncond?: tf.Tensor4D;
  /** Exact savings; all on by default. Off, the same numbers are computed the long way: for tests and timing. */
  readonly savings?: Partial<DenoiseSavings>;
  readonly onStep?: (event: StepEvent) => void | Promise<void>;
}

/** What the loop need not compute twice; neither changes a number. */
export interface DenoiseSavings {
  /** Both branches of guidance see the same latent: everything before the first cross-attention runs once. */
  readonly sharedPrefix: boolean;
  /** Keys and values of each distinct text are projected once, not for each image and step. */
  readonly keysOnce: boolean;
}

export interface DenoiseResult {
  readonly latents: tf.Tensor4D;
  /** Per step, for each image: the weighted sums; empty without miWeight. */
  readonly mi: readonly Float32Array[];
}

/** A slice of the batch that passes through the denoiser at once. */
interface Chunk {
  readonly start: number;
  readonly count: number;
  readonly context: CrossAttentionCache | tf.Tensor3D;
  readonly added: AddedConditions | undefined;
}

function rows<T extends tf.Tensor>(x: T, start: number, count: number): T {
  return tf.slice(x, [start, ...x.shape.slice(1).map(() => 0)], [count, ...x.shape.slice(1)]) as T;
}

/** Both sides of a slice, the unconditional one first. */
function bothSides<T extends tf.Tensor>(cond: T, uncond: T | null, start: number, count: number): T {
  return tf.tidy(() => {
    const own = rows(cond, start, count);
    return uncond === null ? own : (tf.concat([rows(uncond, start, count), own], 0) as T);
  });
}

/** The text of a slice, projected once for all steps. */
function projectText(
  options: DenoiseOptions,
  start: number,
  count: number,
): Pick<Chunk, 'context' | 'added'> {
  const { uncond, added } = options.conditioning;
  const timeIds = added?.timeIds.slice(start, start + count) ?? [];
  return {
    context: projectContext(options, start, count),
    added: added && {
      textEmbeds: bothSides(added.cond, added.uncond, start, count),
      timeIds: uncond === null ? timeIds : [...timeIds, ...timeIds],
    },
  };
}

function projectContext(
  { unet, conditioning, savings }: DenoiseOptions,
  start: number,
  count: number,
): CrossAttentionCache | tf.Tensor3D {
  const { cond, uncond, promptIndex } = conditioning;
  const context = bothSides(cond, uncond, start, count);
  if (savings?.keysOnce === false) return context;
  try {
    if (promptIndex === undefined) return unet.crossAttentionCache(context);
    // Rows of one prompt are equal on either side: the first of each is projected and stands for the others.
    const prompts = promptIndex.slice(start, start + count);
    const firsts = [...new Set(prompts)].map((prompt) => prompts.indexOf(prompt));
    const own = prompts.map((prompt) => firsts.indexOf(prompts.indexOf(prompt)));
    const sides = uncond === null ? [0] : [0, 1];
    const distinct = tf.tidy(() =>
      tf.gather(
        context,
        tf.tensor1d(
          sides.flatMap((side) => firsts.map((row) => side * count + row)),
          'int32',
        ),
      ),
    );
    const places = sides.flatMap((side) => own.map((row) => side * firsts.length + row));
    const cache = unet.crossAttentionCache(distinct, places);
    distinct.dispose();
    return cache;
  } finally {
    context.dispose();
  }
}

function makeChunks(options: DenoiseOptions): Chunk[] {
  const { cond, promptIndex } = options.conditioning;
  const total = cond.shape[0];
  const size = Math.min(options.unetBatch ?? total, total);
  const shared = new Map<string, Pick<Chunk, 'context' | 'added'>>();
  const chunks: Chunk[] = [];
  for (let start = 0; start < total; start += size) {
    const count = Math.min(size, total - start);
    const prompts = promptIndex?.slice(start, start + count) ?? [`at ${start}`];
    const key = prompts.join();
    const text = shared.get(key) ?? projectText(options, start, count);
    shared.set(key, text);
    chunks.push({ start, count, ...text });
  }
  return chunks;
}

/** Frees a chunk; those that share their text may each be freed. */
function disposeChunk({ context, added }: Chunk): void {
  context.dispose();
  added?.textEmbeds.dispose();
}

/**
 * The model's outputs for the whole batch: conditional, and with guidance unconditional. All that differs from step to
 * step is an input, so that one recording serves them all.
 */
function modelOutputs(
  { unet, conditioning, savings }: DenoiseOptions,
  chunks: readonly Chunk[],
  scaled: tf.Tensor4D,
  time: tf.Tensor2D,
): tf.Tensor4D[] {
  const guided = conditioning.uncond !== null;
  const parts = chunks.map(({ start, count, context, added }) => {
    const own = chunks.length === 1 ? scaled : rows(scaled, start, count);
    const input = guided && savings?.sharedPrefix === false ? tf.concat([own, own], 0) : own;
    const output = unet.forward(input, time, context, added && { added });
    const [first, second = first] = guided ? tf.split(output, 2, 0) : [output];
    return { uncond: first as tf.Tensor4D, cond: second as tf.Tensor4D };
  });
  const join = (side: 'cond' | 'uncond'): tf.Tensor4D =>
    tf.concat(
      parts.map((part) => part[side]),
      0,
    );
  return guided ? [join('cond'), join('uncond')] : [join('cond')];
}

/** A step's input to the model: the latents at the scale that it was trained with. */
function scaleInput(step: SamplerStep, latents: tf.Tensor4D): tf.Tensor4D {
  return step.inputScale === 1 ? tf.clone(latents) : (tf.mul(latents, step.inputScale) as tf.Tensor4D);
}

/** One step's predictions, by the model itself or by its recording. */
function predict(
  { unet }: DenoiseOptions,
  outputs: Recorded,
  step: SamplerStep,
  latents: tf.Tensor4D,
): Predictions {
  const [scaled, time] = [scaleInput(step, latents), unet.timestepFeatures([step.timestep])];
  try {
    const [cond, uncond = null] = outputs.run(scaled, time) as tf.Tensor4D[];
    return { cond: cond as tf.Tensor4D, uncond };
  } finally {
    tf.dispose([scaled, time]);
  }
}

/** {@link predict} where the unconditional output is known: half of the work. */
function predictConditional(
  { unet }: DenoiseOptions,
  chunks: readonly Chunk[],
  step: SamplerStep,
  latents: tf.Tensor4D,
  firstUncond: tf.Tensor4D,
): Predictions {
  const cond = tf.tidy(() =>
    tf.concat(
      chunks.map(({ start, count, context, added }) => {
        const input = scaleInput(step, rows(latents, start, count));
        const text = context instanceof tf.Tensor ? rows(context, count, count) : context.slice(count, count);
        const output = unet.forward(
          input,
          step.timestep,
          text,
          added && {
            added: { textEmbeds: rows(added.textEmbeds, count, count), timeIds: added.timeIds.slice(count) },
          },
        );
        if (!(text instanceof tf.Tensor)) text.dispose();
        return output;
      }),
      0,
    ),
  );
  return { cond, uncond: tf.clone(firstUncond) };
}

/** Waits for a step and refuses to go on from NaN: one number of each image is read back. */
async function settle(result: StepResult, step: SamplerStep): Promise<Float32Array | null> {
  const probe = tf.tidy(() => tf.sum(result.latents));
  const [[sum], mi] = await Promise.all([probe.data<'float32'>(), result.mi?.data<'float32'>() ?? null]);
  probe.dispose();
  if (Number.isFinite(sum)) return mi;
  throw new EquipoiseError(
    'numeric',
    `latents after timestep ${step.timestep}: expected finite numbers, got ${sum}`,
    {
      hints: ["Try precision f32, a lower guidance scale, or check the model's weights."],
    },
  );
}

function checkOptions(options: DenoiseOptions, latents: tf.Tensor4D): void {
  const { conditioning, miWeight, guidanceRescale = 0 } = options;
  const { cond, uncond, promptIndex } = conditioning;
  if (promptIndex !== undefined && promptIndex.length !== cond.shape[0]) {
    throw invalid('promptIndex', `${cond.shape[0]} numbers, one for each image`, promptIndex.length);
  }
  if (latents.shape[0] !== cond.shape[0]) {
    throw invalid('latents', `${cond.shape[0]} images, as in the conditioning`, latents.shape);
  }
  if (options.firstUncond !== undefined && uncond === null)
    throw invalid('firstUncond', 'nothing without an unconditional side', options.firstUncond.shape);
  if (options.firstUncond !== undefined && options.firstUncond.shape.join() !== latents.shape.join())
    throw invalid('firstUncond', `the shape of the latents, [${latents.shape}]`, options.firstUncond.shape);
  if (uncond === null && miWeight !== undefined) {
    throw invalid('miWeight', 'an unconditional side in the conditioning', 'none');
  }
  if (uncond === null && guidanceRescale > 0)
    throw invalid('guidanceRescale', '0 without guidance', guidanceRescale);
}

/**
 * Runs a sampler over a model.
 * @param latents unit normal noise times the sampler's initNoiseSigma [N, h, w, C]; not freed
 * @throws EquipoiseError `cancelled` between steps once the signal is aborted; `numeric` on NaN or infinity
 */
export async function denoise(latents: tf.Tensor4D, options: DenoiseOptions): Promise<DenoiseResult> {
  checkOptions(options, latents);
  const { sampler, signal, firstUncond } = options;
  throwIfCancelled(signal, 'denoise');
  const chunks = makeChunks(options);
  // A launch costs more than a small kernel: on devices that record, every call of the model after the first is one.
  const outputs = recordOnRepeat((scaled, time) =>
    modelOutputs(options, chunks, scaled as tf.Tensor4D, time as tf.Tensor2D),
  );
  let state: TensorState = { latents: tf.clone(latents), history: [], held: null };
  const mi: Float32Array[] = [];
  let finished = false;
  try {
    const progress = new ProgressCounter('denoise', options, {
      total: sampler.timesteps.length,
      unit: 'step',
    });
    for (let index = 0; index < sampler.timesteps.length; index++) {
      const step = sampler.coefficients(index);
      const predictions =
        index === 0 && firstUncond !== undefined
          ? predictConditional(options, chunks, step, state.latents, firstUncond)
          : predict(options, outputs, step, state.latents);
      const { result, sums } = await advance(step, index, state, predictions, options);
      if (sums !== null && options.miWeight !== undefined) mi.push(sums);
      state = nextState(step, state, result, sampler.historyLength);
      tf.dispose([predictions.cond, ...(predictions.uncond === null ? [] : [predictions.uncond])]);
      progress.advance();
    }
    finished = true;
    return { latents: state.latents, mi };
  } finally {
    outputs.dispose();
    for (const chunk of chunks) disposeChunk(chunk);
    tf.dispose([...state.history, ...(state.held === null ? [] : [state.held])]);
    if (!finished) state.latents.dispose();
  }
}

/** Takes one step, waits for it and tells the listener; frees its own tensors when anything fails. */
async function advance(
  step: SamplerStep,
  index: number,
  state: TensorState,
  predictions: Predictions,
  options: DenoiseOptions,
): Promise<{ result: StepResult; sums: Float32Array | null }> {
  const { sampler, onStep, guidance, guidanceRescale = 0 } = options;
  const noise = step.drawsNoise ? options.noise(index) : null;
  // Predictions of velocity differ by a factor from predictions of noise, and so do their differences.
  const miWeight = (options.miWeight?.(step.timestep, index) ?? 0) * step.epsilonScale ** 2;
  const result = takeStep(step, state, predictions, { guidance, guidanceRescale, miWeight }, noise);
  noise?.dispose();
  try {
    const sums = await settle(result, step);
    await onStep?.({
      index,
      total: sampler.timesteps.length,
      timestep: step.timestep,
      step,
      before: state.latents,
      latents: result.latents,
      cond: predictions.cond,
      uncond: predictions.uncond,
      mi: options.miWeight === undefined ? null : sums,
    });
    result.mi?.dispose();
    return { result, sums };
  } catch (error) {
    tf.dispose(result);
    tf.dispose([predictions.cond, ...(predictions.uncond === null ? [] : [predictions.uncond])]);
    throw error;
  }
}
