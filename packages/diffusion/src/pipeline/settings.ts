/** The record of how an image was made. */
import type { Sampler } from '../samplers/index.js';
import type { GenerateInputs } from './inputs.js';
import { imageSeeds } from './noise.js';
import type { SamplingOptions } from './options.js';

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

/** What all images of a call share. */
export interface CallSettings {
  readonly pipeline: string;
  readonly inputs: GenerateInputs;
  readonly options: SamplingOptions;
  readonly sampler: Sampler;
  readonly guidance: number;
  readonly height: number;
  readonly width: number;
  /** Images of the call. */
  readonly count: number;
}

/** The settings of one image of a call. */
export function imageSettings(call: CallSettings, index: number): ImageSettings {
  const { inputs, options, sampler, count } = call;
  const which = Math.floor(index / options.imagesPerPrompt);
  const text = (value: string | readonly string[] | undefined): string | null =>
    (typeof value === 'object' ? value[which] : value) ?? null;
  const whole = options.rng === 'torch' && options.seeds === undefined;
  return {
    pipeline: call.pipeline,
    prompt: text(inputs.prompt),
    negativePrompt: text(inputs.negativePrompt),
    sampler: sampler.name,
    steps: options.steps,
    guidance: call.guidance,
    guidanceRescale: options.guidanceRescale,
    eta: options.eta,
    clipSkip: options.clipSkip ?? null,
    rng: options.rng,
    seed: whole ? options.seed : (imageSeeds(options.seed, options.seeds, count)[index] as number),
    index,
    width: call.width,
    height: call.height,
  };
}
