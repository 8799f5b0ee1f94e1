/** Text to image with Stable Diffusion 1.x, 2.x and XL: diffusers' pipelines, number for number. */
import { type EquipoiseError, invalid, type JobContext, prose, throwIfCancelled } from '@equipoise/core';
import type { RgbImage } from '@equipoise/models';
import * as tf from '@tensorflow/tfjs-core';
import { toImages } from '../image-output.js';
import { createSampler, type Sampler } from '../samplers/index.js';
import { type ParsedScheduler, parseSchedulerConfig } from '../scheduler-config.js';
import {
  conditionImages,
  disposeConditioning,
  disposeSides,
  encodePrompts,
  encodeSides,
} from './conditioning.js';
import { type Conditioning, denoise } from './denoise.js';
import type { GenerateHooks, GenerateInputs, PipelineParts } from './inputs.js';
import { type LatentShape, latentNoise } from './noise.js';
import {
  LARGEST_SIDE,
  type SamplingInput,
  type SamplingOptions,
  samplerClasses,
  samplingOptions,
} from './options.js';
import { type ImageSettings, imageSettings } from './settings.js';
import type { EncodeTextOptions, TextEmbeddings } from './text.js';

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
      if (size !== undefined) {
        if (size * unit <= LARGEST_SIDE) return size * unit;
        throw invalid('unet: sample_size', `at most ${LARGEST_SIDE / unit}, or height and width given`, size);
      }
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

  /** Encodes prompts as the denoiser wants them: a row for each. */
  encodePrompts(prompts: readonly string[], options: EncodeTextOptions = {}): TextEmbeddings {
    return encodePrompts(this.parts, prompts, options);
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
    const guided = guidance > 1 || hooks.miWeight !== undefined;
    const sides = encodeSides(this.parts, inputs, guided, options, hooks);
    const conditioning = conditionImages(sides, options.imagesPerPrompt, height, width);
    disposeSides(sides);
    try {
      const result = await this.#denoise(conditioning, sampler, inputs, options, hooks, [
        height,
        width,
        guidance,
      ]);
      try {
        const images = await this.decode(result.latents, { tiled: options.vaeTiling, ...hooks });
        const call = {
          pipeline: this.className,
          inputs,
          options,
          sampler,
          guidance,
          height,
          width,
          count: images.length,
        };
        return { images, settings: images.map((_, i) => imageSettings(call, i)), ...result };
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

  /** Frees all weights. */
  dispose(): void {
    const { unet, vae, textEncoder, textEncoder2 } = this.parts;
    for (const model of [unet, vae, textEncoder, textEncoder2]) model?.dispose();
  }
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
