/**
 * `CLIPModel`: both towers, their projections and the temperature.
 */
import * as tf from '@tensorflow/tfjs-core';
import { ConfiguredModel } from '../configured-model.js';
import type { Linear } from '../layers.js';
import { Parameter } from '../parameter.js';
import { type ClipConfig, parseClipConfig } from './config.js';
import { ClipTextTransformer, featureProjection } from './text.js';
import { ClipVisionTransformer } from './vision.js';

export type ClipOutput = {
  /** Features of unit length [N, projection_dim]. */
  textEmbeds: tf.Tensor2D;
  /** Features of unit length [M, projection_dim]. */
  imageEmbeds: tf.Tensor2D;
  /** Similarities over the temperature [M, N]. */
  logitsPerImage: tf.Tensor2D;
};

export class CLIPModel extends ConfiguredModel<ClipConfig> {
  readonly textModel: ClipTextTransformer;
  readonly visionModel: ClipVisionTransformer;
  readonly textProjection: Linear;
  readonly visualProjection: Linear;
  /** Logarithm of the inverse temperature; a scalar. */
  readonly logitScale: Parameter;

  /** The architecture without weights, from a `config.json` of transformers. */
  constructor(config: unknown, where?: string) {
    super(parseClipConfig(config, where));
    const { text, vision, projection_dim, logit_scale_init_value } = this.config;
    const scale = new Parameter([], { kind: 'constant', value: logit_scale_init_value });
    this.logitScale = this.parameter('logit_scale', scale);
    this.textModel = this.child('text_model', new ClipTextTransformer(text));
    this.visionModel = this.child('vision_model', new ClipVisionTransformer(vision));
    this.visualProjection = this.child(
      'visual_projection',
      featureProjection(vision.hidden_size, projection_dim),
    );
    this.textProjection = this.child('text_projection', featureProjection(text.hidden_size, projection_dim));
  }

  /** Projected features of texts, not normalised [N, projection_dim]. */
  textFeatures(ids: readonly ArrayLike<number>[]): tf.Tensor2D {
    return tf.tidy(() => this.textProjection.forward(this.textModel.forward(ids).pooled) as tf.Tensor2D);
  }

  /** Projected features of images, not normalised [M, projection_dim]. */
  imageFeatures(pixels: tf.Tensor4D): tf.Tensor2D {
    return tf.tidy(
      () => this.visualProjection.forward(this.visionModel.forward(pixels).pooled) as tf.Tensor2D,
    );
  }

  /** Compares every image with every text. */
  forward(ids: readonly ArrayLike<number>[], pixels: tf.Tensor4D): ClipOutput {
    return tf.tidy(() => {
      const textEmbeds = unitLength(this.textFeatures(ids));
      const imageEmbeds = unitLength(this.imageFeatures(pixels));
      const similarity = tf.matMul(imageEmbeds, textEmbeds, false, true) as tf.Tensor2D;
      return { textEmbeds, imageEmbeds, logitsPerImage: tf.mul(similarity, tf.exp(this.logitScale.value)) };
    });
  }
}

/** Each row divided by its Euclidean length. */
export function unitLength(x: tf.Tensor2D): tf.Tensor2D {
  return tf.tidy(() => tf.div(x, tf.sqrt(tf.sum(tf.square(x), 1, true))) as tf.Tensor2D);
}
