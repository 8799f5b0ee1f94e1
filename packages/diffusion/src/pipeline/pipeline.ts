/** Text to image with Stable Diffusion 1.x, 2.x and XL: diffusers' pipelines, number for number. */
import {
  type EquipoiseError,
  invalid,
  type JobContext,
  type JsonValue,
  prose,
  throwIfCancelled,
} from '@equipoise/core';
import type {
  AutoencoderKL,
  CLIPTextModel,
  CLIPTextModelWithProjection,
  ClipTokenizer,
  RgbImage,
  TruncationWarning,
  UNet2DConditionModel,
} from '@equipoise/models';
import * as tf from '@tensorflow/tfjs-core';
import { toImages } from '../image-output.js';
import { createSampler, type Sampler } from '../samplers/index.js';
import { type ParsedScheduler, parseSchedulerConfig } from '../scheduler-config.js';
import { type Conditioning, type DenoiseOptions, denoise, type StepEvent } from './denoise.js';
import { imageSeeds, type LatentShape, latentNoise } from './noise.js';
import { type SamplingInput, type SamplingOptions, samplerClasses, samplingOptions } from './options.js';
import { encodeText, encodeTextXl, repeatRows, type TextEmbeddings } from './text.js';

/** The parts of a pipeline. The second tower makes it a Stable Diffusion XL. */
export interface PipelineParts {
  readonly unet: UNet2DConditionModel;
  readonly vae: AutoencoderKL;
  readonly tokenizer: ClipTokenizer;
  readonly textEncoder: CLIPTextModel;
  readonly tokenizer2?: ClipTokenizer;
  readonly textEncoder2?: CLIPTextModelWithProjection;
  /** A parsed scheduler_config.json. */
  readonly scheduler: unknown;
  /** The parts' config files as they came, for saving; keys as in model_index.json. */
  readonly configs: Readonly<Record<string, Readonly<Record<string, JsonValue>>>>;
  /** Settings of model_index.json, such as force_zeros_for_empty_prompt. */
  readonly settings?: Readonly<Record<string, unknown>>;
}

/** What to draw: prompts, or their embeddings. */
export interface GenerateInputs {
  readonly prompt?: string | readonly string[];
  readonly negativePrompt?: string | readonly string[];
  /** [P, L, C] instead of prompts; pooled embeddings too for Stable Diffusion XL. Not freed. */
  readonly promptEmbeds?: tf.Tensor3D;
  readonly negativePromptEmbeds?: tf.Tensor3D;
  readonly pooledPromptEmbeds?: tf.Tensor2D;
  readonly negativePooledPromptEmbeds?: tf.Tensor2D;
  /** Unit normal noise to start from [N, h, w, C] instead of drawing it. Not freed. */
  readonly latents?: tf.Tensor4D;
}

export interface GenerateHooks extends JobContext {
  readonly onStep?: (event: StepEvent) => void | Promise<void>;
  readonly miWeight?: DenoiseOptions['miWeight'];
  readonly onWarning?: (warning: TruncationWarning) => void;
}

/** Everything needed to make an image again; embedded in PNG files. */
export interface ImageSettings {
  readonly pipeline: string;
  readonly prompt: string | null;
  readonly negativePrompt: string | null;
  readonly sampler: string;
  readonly steps: number;
  readonly guidance: number;
  readonly guidanceRescale: number;
  readonly eta: number;
  readonly clipSkip: number | null;
  readonly rng: string;
  /** The image's own seed; with torch's generator and one seed, that of the whole call. */
  readonly seed: number;
  /** The image's place in the call. */
  readonly index: number;
  readonly width: number;
  readonly height: number;
}

export interface Generated {
  /** Prompt by prompt, imagesPerPrompt of each. */
  readonly images: RgbImage[];
  /** One for each image. */
  readonly settings: ImageSettings[];
  /** Final latents, as the denoiser has them [N, h, w, C]. The caller frees them. */
  readonly latents: tf.Tensor4D;
  /** Per step, for each image; empty without miWeight. */
  readonly mi: readonly Float32Array[];
}

/** Both sides of the conditioning before images are counted: a row for each prompt. */
interface Sides {
  readonly cond: TextEmbeddings;
  readonly uncond: TextEmbeddings | null;
}

/** Pixels decoded together, at most: bounds the decoder's memory. */
const decodedTogether = 1024 * 1024;

export class TextToImagePipeline {
  readonly parts: PipelineParts;
  /** The scheduler as the pipeline uses it, its corrections and ignored keys. */
  readonly scheduler: ParsedScheduler;

  constructor(parts: PipelineParts) {
    this.parts = parts;
    if ((parts.tokenizer2 === undefined) !== (parts.textEncoder2 === undefined)) {
      throw invalid(
        'textEncoder2',
        'a second tokenizer with the second text encoder',
        prose('one without the other'),
      );
    }
    const xl = parts.unet.config.addition_embed_type === 'text_time';
    if (xl !== this.isXl) {
      throw invalid('unet', this.isXl ? 'addition_embed_type "text_time"' : 'no additional conditioning', xl);
    }
    this.scheduler = this.#schedulerAs(undefined);
  }

  /** Whether this is a Stable Diffusion XL, with two text encoders. */
  get isXl(): boolean {
    return this.parts.textEncoder2 !== undefined;
  }

  /** The class name in model_index.json. */
  get className(): 'StableDiffusionPipeline' | 'StableDiffusionXLPipeline' {
    return this.isXl ? 'StableDiffusionXLPipeline' : 'StableDiffusionPipeline';
  }

  /** Guidance scale when none is given. */
  get defaultGuidance(): number {
    return this.isXl ? 5 : 7.5;
  }

  #schedulerAs(name: SamplingOptions['sampler']): ParsedScheduler {
    return parseSchedulerConfig(this.parts.scheduler, {
      pipeline: this.isXl ? 'sdxl' : 'sd',
      ...(name !== undefined && { as: samplerClasses[name] }),
    });
  }

  /** The sampler that a call with these options uses. */
  sampler(input: SamplingInput = {}): Sampler {
    const { sampler, steps, eta } = samplingOptions.parse(input);
    return createSampler(this.#schedulerAs(sampler).config, { steps, eta });
  }

  /** Sides in pixels: as asked for, or the model's own. */
  #sides({ height, width }: SamplingOptions): [height: number, width: number] {
    const unit = this.parts.vae.downscale;
    const own = this.parts.unet.config.sample_size;
    const ownSide = (axis: number): number => {
      const size = typeof own === 'number' ? own : own?.[axis];
      if (size !== undefined) return size * unit;
      throw invalid(
        axis === 0 ? 'height' : 'width',
        'a value, for the model names no size of its own',
        undefined,
      );
    };
    const sides: [number, number] = [height ?? ownSide(0), width ?? ownSide(1)];
    for (const [i, side] of sides.entries()) {
      if (side % unit !== 0) throw invalid(i === 0 ? 'height' : 'width', `a multiple of ${unit}`, side);
    }
    return sides;
  }

  /**
   * Encodes prompts as the denoiser wants them: a row for each. Negative prompts never skip layers, as in
   * diffusers.
   */
  encodePrompts(
    prompts: readonly string[],
    options: {
      clipSkip?: number | undefined;
      maxLength?: number;
      onWarning?: GenerateHooks['onWarning'];
    } = {},
  ): TextEmbeddings {
    const { tokenizer, textEncoder, tokenizer2, textEncoder2 } = this.parts;
    const first = { tokenizer, model: textEncoder };
    if (textEncoder2 === undefined || tokenizer2 === undefined) return encodeText(first, prompts, options);
    return encodeTextXl(first, { tokenizer: tokenizer2, model: textEncoder2 }, prompts, options);
  }

  /** Whether a missing negative prompt means zeros (Stable Diffusion XL base) or the empty text. */
  get #zerosForEmpty(): boolean {
    return this.isXl && this.parts.settings?.['force_zeros_for_empty_prompt'] !== false;
  }

  #encodeSides(
    inputs: GenerateInputs,
    guided: boolean,
    options: SamplingOptions,
    hooks: GenerateHooks,
  ): Sides {
    const { onWarning } = hooks;
    const cond = this.#condition(inputs, options, onWarning);
    if (!guided) return { cond, uncond: null };
    const rows = cond.embeds.shape[0];
    if (inputs.negativePromptEmbeds !== undefined) {
      const { negativePromptEmbeds: embeds, negativePooledPromptEmbeds: pooled } = inputs;
      return { cond, uncond: this.#given('negativePromptEmbeds', embeds, pooled, cond) };
    }
    const { negativePrompt } = inputs;
    if (negativePrompt === undefined && this.#zerosForEmpty) {
      const uncond = { embeds: tf.zerosLike(cond.embeds), pooled: tf.zerosLike(cond.pooled as tf.Tensor2D) };
      return { cond, uncond };
    }
    const texts =
      typeof negativePrompt === 'object' ? negativePrompt : Array<string>(rows).fill(negativePrompt ?? '');
    if (texts.length !== rows)
      throw invalid('negativePrompt', `${rows} texts, one for each prompt`, texts.length);
    return { cond, uncond: this.encodePrompts(texts, { maxLength: cond.embeds.shape[1], onWarning }) };
  }

  #condition(
    inputs: GenerateInputs,
    options: SamplingOptions,
    onWarning: GenerateHooks['onWarning'],
  ): TextEmbeddings {
    const { prompt, promptEmbeds, pooledPromptEmbeds } = inputs;
    if ((prompt === undefined) === (promptEmbeds === undefined)) {
      throw invalid(
        'prompt',
        'either prompts or promptEmbeds',
        prose(prompt === undefined ? 'neither' : 'both'),
      );
    }
    if (promptEmbeds !== undefined) return this.#given('promptEmbeds', promptEmbeds, pooledPromptEmbeds);
    const texts = typeof prompt === 'string' ? [prompt] : (prompt as readonly string[]);
    if (texts.length === 0) throw invalid('prompt', 'at least one prompt', texts);
    return this.encodePrompts(texts, { clipSkip: options.clipSkip, onWarning });
  }

  /** Checks embeddings that the caller made, and copies the handles so that they can be freed alike. */
  #given(
    name: string,
    embeds: tf.Tensor3D,
    pooled: tf.Tensor2D | undefined,
    like?: TextEmbeddings,
  ): TextEmbeddings {
    const width = this.parts.unet.config.cross_attention_dim;
    if (embeds.rank !== 3 || embeds.shape[2] !== width || embeds.size === 0) {
      throw invalid(name, `[prompts, positions, ${width}]`, embeds.shape);
    }
    if (
      like !== undefined &&
      (embeds.shape[0] !== like.embeds.shape[0] || embeds.shape[1] !== like.embeds.shape[1])
    ) {
      throw invalid(
        name,
        `the shape of the prompts' embeddings, [${like.embeds.shape.join(', ')}]`,
        embeds.shape,
      );
    }
    if (!this.isXl) return { embeds: tf.clone(embeds) };
    if (pooled === undefined || pooled.shape[0] !== embeds.shape[0]) {
      const pooledName = name.replace('romptEmbeds', 'ooledPromptEmbeds').replace('negativeP', 'negativeP');
      throw invalid(
        pooledName,
        `[${embeds.shape[0]}, width], which Stable Diffusion XL needs beside ${name}`,
        pooled?.shape,
      );
    }
    return { embeds: tf.clone(embeds), pooled: tf.clone(pooled) };
  }

  /** The conditioning of every image, from rows for each prompt. */
  #conditioning({ cond, uncond }: Sides, perPrompt: number, height: number, width: number): Conditioning {
    const count = cond.embeds.shape[0] * perPrompt;
    const spread = <T extends tf.Tensor>(x: T): T => repeatRows(x, perPrompt);
    const promptIndex = Array.from({ length: count }, (_, i) => Math.floor(i / perPrompt));
    const base = { cond: spread(cond.embeds), uncond: uncond && spread(uncond.embeds), promptIndex };
    if (cond.pooled === undefined) return base;
    // Original size, crop corner and target size: the image is asked for whole, at its own size.
    const ids = [height, width, 0, 0, height, width];
    return {
      ...base,
      added: {
        cond: spread(cond.pooled),
        uncond: uncond && spread(uncond.pooled as tf.Tensor2D),
        timeIds: Array.from({ length: count }, () => ids),
      },
    };
  }

  /**
   * Generates images.
   * @throws EquipoiseError for options that do not fit, `cancelled` once the signal is aborted, `numeric` on NaN
   */
  async generate(
    inputs: GenerateInputs,
    input: SamplingInput = {},
    hooks: GenerateHooks = {},
  ): Promise<Generated> {
    throwIfCancelled(hooks.signal, 'generate');
    const options = samplingOptions.parse(input);
    const sampler = this.sampler(input);
    const [height, width] = this.#sides(options);
    const guidance = options.guidance ?? this.defaultGuidance;
    const sides = this.#encodeSides(inputs, guidance > 1 || hooks.miWeight !== undefined, options, hooks);
    const conditioning = this.#conditioning(sides, options.imagesPerPrompt, height, width);
    tf.dispose(
      [sides.cond, sides.uncond].flatMap((side) =>
        side === null ? [] : (Object.values(side) as tf.Tensor[]),
      ),
    );
    try {
      const result = await this.#denoise(conditioning, sampler, inputs, options, hooks, [
        height,
        width,
        guidance,
      ]);
      try {
        const images = await this.decode(result.latents, { tiled: options.vaeTiling, ...hooks });
        const settings = images.map((_, i) =>
          this.#settings(inputs, options, sampler, guidance, [height, width], i, images.length),
        );
        return { images, settings, ...result };
      } catch (error) {
        result.latents.dispose();
        throw error;
      }
    } finally {
      disposeConditioning(conditioning);
    }
  }

  async #denoise(
    conditioning: Conditioning,
    sampler: Sampler,
    inputs: GenerateInputs,
    options: SamplingOptions,
    hooks: GenerateHooks,
    [height, width, guidance]: [number, number, number],
  ): Promise<{ latents: tf.Tensor4D; mi: readonly Float32Array[] }> {
    const unit = this.parts.vae.downscale;
    const count = conditioning.cond.shape[0];
    const shape: LatentShape = [count, height / unit, width / unit, this.parts.unet.config.in_channels];
    const noise = latentNoise(options.rng, shape, options.seed, options.seeds);
    if (inputs.latents !== undefined && inputs.latents.shape.join() !== shape.join()) {
      throw invalid('latents', `[${shape.join(', ')}]`, inputs.latents.shape);
    }
    const start = tf.tidy(
      () => tf.mul(inputs.latents ?? noise.initial(), sampler.initNoiseSigma) as tf.Tensor4D,
    );
    try {
      return await denoise(start, {
        ...hooks,
        unet: this.parts.unet,
        sampler,
        conditioning,
        guidance,
        guidanceRescale: options.guidanceRescale,
        noise: (index) => noise.step(index),
        ...(options.unetBatch !== undefined && { unetBatch: options.unetBatch }),
      });
    } finally {
      start.dispose();
    }
  }

  /**
   * Decodes latents as the denoiser has them.
   * @param latents [N, h, w, C]; not freed
   */
  async decode(latents: tf.Tensor4D, options: { tiled?: boolean } & JobContext = {}): Promise<RgbImage[]> {
    const { vae } = this.parts;
    const [count, height, width, channels] = latents.shape;
    const pixels = height * width * vae.downscale ** 2;
    const together = Math.max(1, Math.floor(decodedTogether / pixels));
    const images: RgbImage[] = [];
    for (let start = 0; start < count; start += together) {
      throwIfCancelled(options.signal, 'decode');
      const decoded = tf.tidy(() => {
        const size = Math.min(together, count - start);
        const z = vae.fromModelLatents(tf.slice(latents, [start, 0, 0, 0], [size, height, width, channels]));
        return options.tiled ? vae.decodeTiled(z) : vae.decode(z);
      });
      images.push(...(await toImages(decoded)));
      decoded.dispose();
      options.onProgress?.({ task: 'decode', done: images.length, total: count, unit: 'image' });
    }
    return images;
  }

  #settings(
    inputs: GenerateInputs,
    options: SamplingOptions,
    sampler: Sampler,
    guidance: number,
    [height, width]: [number, number],
    index: number,
    count: number,
  ): ImageSettings {
    const which = Math.floor(index / options.imagesPerPrompt);
    const text = (value: string | readonly string[] | undefined): string | null =>
      (typeof value === 'object' ? value[which] : value) ?? null;
    const whole = options.rng === 'torch' && options.seeds === undefined;
    return {
      pipeline: this.className,
      prompt: text(inputs.prompt),
      negativePrompt: text(inputs.negativePrompt),
      sampler: sampler.name,
      steps: options.steps,
      guidance,
      guidanceRescale: options.guidanceRescale,
      eta: options.eta,
      clipSkip: options.clipSkip ?? null,
      rng: options.rng,
      seed: whole ? options.seed : (imageSeeds(options.seed, options.seeds, count)[index] as number),
      index,
      width,
      height,
    };
  }

  /** Frees all weights. */
  dispose(): void {
    const { unet, vae, textEncoder, textEncoder2 } = this.parts;
    for (const model of [unet, vae, textEncoder, textEncoder2]) model?.dispose();
  }
}

function disposeConditioning({ cond, uncond, added }: Conditioning): void {
  for (const tensor of [cond, uncond, added?.cond, added?.uncond]) tensor?.dispose();
}

/** Refuses parts of a pipeline that this package does not have. */
export function unsupportedPipeline(path: string, className: string | undefined): EquipoiseError {
  return invalid(
    `${path}: pipeline`,
    'StableDiffusionPipeline or StableDiffusionXLPipeline',
    className ?? prose('a folder that is no pipeline'),
    { code: 'unsupported' },
  );
}
