/**
 * CLIP's image tower: `CLIPVisionModel` and `CLIPVisionModelWithProjection`, with transformers' names and
 * numbers.
 */
import { invalid } from '@equipoise/core';
import * as tf from '@tensorflow/tfjs-core';
import { ConfiguredModel } from '../configured-model.js';
import { Conv2d, Embedding, LayerNorm, type Linear } from '../layers.js';
import type { KeyRules } from '../model.js';
import { Module } from '../module.js';
import { Parameter } from '../parameter.js';
import type { StateDict } from '../state-dict.js';
import { type ClipVisionConfig, parseClipVisionConfig } from './config.js';
import { ClipEncoder } from './encoder.js';
import { featureProjection, towerKeys } from './text.js';

export type ClipVisionOutput = {
  /** States of the class token and the patches after the last layer, not normed [B, 1 + patches, C]. */
  lastHiddenState: tf.Tensor3D;
  /** The normed state of the class token [B, C]. */
  pooled: tf.Tensor2D;
};

/** The tower itself, registered as `vision_model`. */
export class ClipVisionTransformer extends Module {
  readonly #class: Parameter;
  readonly #patches: Conv2d;
  readonly #positions: Embedding;
  readonly #preNorm: LayerNorm;
  readonly #encoder: ClipEncoder;
  readonly #postNorm: LayerNorm;

  constructor(readonly config: ClipVisionConfig) {
    super();
    const { hidden_size: width, image_size, patch_size, num_channels, layer_norm_eps } = config;
    const count = Math.floor(image_size / patch_size) ** 2 + 1;
    const std = { kind: 'normal', std: 0.02 } as const;
    this.#class = this.parameter(
      'embeddings.class_embedding',
      new Parameter([width], { kind: 'normal', std: width ** -0.5 }),
    );
    this.#patches = this.child(
      'embeddings.patch_embedding',
      new Conv2d(num_channels, width, {
        kernel: patch_size,
        stride: patch_size,
        pad: [
          [0, 0],
          [0, 0],
        ],
        bias: false,
        weightInitializer: std,
      }),
    );
    this.#positions = this.child('embeddings.position_embedding', new Embedding(count, width, std));
    // The misspelling is part of the checkpoint's key.
    this.#preNorm = this.child('pre_layrnorm', new LayerNorm(width, layer_norm_eps));
    this.#encoder = this.child('encoder', new ClipEncoder(config, false));
    this.#postNorm = this.child('post_layernorm', new LayerNorm(width, layer_norm_eps));
  }

  /** @param pixels normalised images [B, image_size, image_size, channels] */
  forward(pixels: tf.Tensor4D): ClipVisionOutput {
    const { hidden_size: width, image_size: side, num_channels } = this.config;
    const [batch, ...rest] = pixels.shape;
    if (pixels.rank !== 4 || batch === 0 || !tf.util.arraysEqual(rest, [side, side, num_channels])) {
      throw invalid('pixels', `[B, ${side}, ${side}, ${num_channels}]`, pixels.shape);
    }
    return tf.tidy(() => {
      const embedded = tf.tidy(() => {
        const grid = this.#patches.forward(pixels, null, { wide: true });
        const patches = tf.reshape(grid, [batch, grid.shape[1] * grid.shape[2], width]);
        const first = tf.tile(tf.reshape(this.#class.value, [1, 1, width]), [batch, 1, 1]);
        return this.#preNorm.forward(
          tf.add(tf.concat([first, patches], 1), this.#positions.weight.value) as tf.Tensor3D,
        );
      });
      const lastHiddenState = this.#encoder.forward(embedded).hidden;
      const first = tf.reshape(tf.slice(lastHiddenState, [0, 0, 0], [batch, 1, width]), [
        batch,
        width,
      ]) as tf.Tensor2D;
      return { lastHiddenState, pooled: this.#postNorm.forward(first) };
    });
  }
}

export class CLIPVisionModel extends ConfiguredModel<ClipVisionConfig> {
  readonly visionModel: ClipVisionTransformer;

  /** The architecture without weights, from a `config.json` of transformers. */
  constructor(config: unknown, where?: string) {
    super(parseClipVisionConfig(config, where));
    this.visionModel = this.child('vision_model', new ClipVisionTransformer(this.config));
  }

  override keyRules(state: StateDict): KeyRules {
    return towerKeys(state, 'vision_model.', 'post_layernorm.weight');
  }

  /** See {@link ClipVisionTransformer.forward}. */
  forward(pixels: tf.Tensor4D): ClipVisionOutput {
    return this.visionModel.forward(pixels);
  }
}

/** {@link ClipVisionOutput} with the pooled output projected into the space shared with texts. */
export type ClipVisionProjectedOutput = ClipVisionOutput & { imageEmbeds: tf.Tensor2D };

export class CLIPVisionModelWithProjection extends ConfiguredModel<ClipVisionConfig> {
  readonly visionModel: ClipVisionTransformer;
  readonly visualProjection: Linear;

  /** The architecture without weights, from a `config.json` of transformers. */
  constructor(config: unknown, where?: string) {
    super(parseClipVisionConfig(config, where));
    const { hidden_size, projection_dim } = this.config;
    this.visionModel = this.child('vision_model', new ClipVisionTransformer(this.config));
    this.visualProjection = this.child('visual_projection', featureProjection(hidden_size, projection_dim));
  }

  override keyRules(state: StateDict): KeyRules {
    return towerKeys(state, 'vision_model.', 'post_layernorm.weight');
  }

  /** See {@link ClipVisionTransformer.forward}. */
  forward(pixels: tf.Tensor4D): ClipVisionProjectedOutput {
    return tf.tidy(() => {
      const output = this.visionModel.forward(pixels);
      return { ...output, imageEmbeds: this.visualProjection.forward(output.pooled) as tf.Tensor2D };
    });
  }
}
