/** What a pipeline consists of, and what a call of it takes. */
import type { JobContext, JsonValue } from '@equipoise/core';
import type {
  AutoencoderKL,
  CLIPTextModel,
  CLIPTextModelWithProjection,
  ClipTokenizer,
  TruncationWarning,
  UNet2DConditionModel,
} from '@equipoise/models';
import type * as tf from '@tensorflow/tfjs-core';
import type { DenoiseOptions, StepEvent } from './denoise.js';

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
