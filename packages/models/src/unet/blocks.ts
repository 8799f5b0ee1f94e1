/**
 * The levels of the UNet: residual blocks, each followed by a transformer at the levels that see the text, and
 * a resampling layer at the end.
 */
import type * as tf from '@tensorflow/tfjs-core';
import { concatChannels } from '../batch.js';
import { checkpoint } from '../checkpoint.js';
import { Module } from '../module.js';
import { Downsample2D, ResnetBlock2D, Upsample2D } from '../resnet.js';
import type { CrossAttentionCache } from './cross-attention-cache.js';
import { Transformer2DModel, type TransformerOptions } from './transformer.js';

/** What every block of one forward pass is given. */
export interface BlockInputs {
  /** SiLU of the time embedding [B or 1, width]. */
  readonly time: tf.Tensor2D;
  /** The text [B, L, D], or its projected keys and values. */
  readonly context: tf.Tensor3D | CrossAttentionCache;
  /** Recompute instead of keeping intermediates for the gradient. */
  readonly recompute: boolean;
}

export interface LevelOptions {
  readonly timeChannels: number;
  readonly groups: number;
  readonly epsilon: number;
  /** Null at levels without cross-attention. */
  readonly attention: Omit<TransformerOptions, 'channels' | 'groups'> | null;
}

function runResnet(block: ResnetBlock2D, x: tf.Tensor4D, { time, recompute }: BlockInputs): tf.Tensor4D {
  if (!recompute) return block.forward(x, time);
  return checkpoint(
    (x, time) => block.forward(x as tf.Tensor4D, time as tf.Tensor2D),
    [x, time],
    block.trainableVariables(),
  );
}

function runTransformer(block: Transformer2DModel, x: tf.Tensor4D, inputs: BlockInputs): tf.Tensor4D {
  const { context, recompute } = inputs;
  if ('lookup' in context) {
    // Keys and values are constants, so nothing but x needs a gradient.
    const keyValues = context.lookup(block);
    if (!recompute) return block.forward(x, keyValues);
    return checkpoint((x) => block.forward(x as tf.Tensor4D, keyValues), [x], block.trainableVariables());
  }
  if (!recompute) return block.forward(x, context);
  return checkpoint(
    (x, context) => block.forward(x as tf.Tensor4D, context as tf.Tensor3D),
    [x, context],
    block.trainableVariables(),
  );
}

function transformer(channels: number, { attention, groups }: LevelOptions): Transformer2DModel | null {
  return attention === null ? null : new Transformer2DModel({ ...attention, channels, groups });
}

/** `DownBlock2D` and `CrossAttnDownBlock2D`. */
export class DownBlock extends Module {
  readonly #resnets: readonly ResnetBlock2D[];
  readonly #attentions: readonly Transformer2DModel[];
  readonly #downsample: Downsample2D | null;

  constructor(
    inChannels: number,
    outChannels: number,
    layers: number,
    downsample: boolean,
    options: LevelOptions,
  ) {
    super();
    const indices = Array.from({ length: layers }, (_, index) => index);
    const transformers = indices.flatMap(() => transformer(outChannels, options) ?? []);
    this.#attentions = this.children('attentions', transformers);
    this.#resnets = this.children(
      'resnets',
      indices.map(
        (i) => new ResnetBlock2D({ ...options, inChannels: i === 0 ? inChannels : outChannels, outChannels }),
      ),
    );
    const pad: [[number, number], [number, number]] = [
      [1, 1],
      [1, 1],
    ];
    this.#downsample = downsample ? this.child('downsamplers.0', new Downsample2D(outChannels, pad)) : null;
  }

  /** Returns the result of every layer, the last of which goes on down; x stays the caller's. */
  forward(x: tf.Tensor4D, inputs: BlockInputs): tf.Tensor4D[] {
    const results: tf.Tensor4D[] = [];
    let h = x;
    this.#resnets.forEach((resnet, index) => {
      h = runResnet(resnet, h, inputs);
      const attention = this.#attentions[index];
      if (attention !== undefined) {
        const before = h;
        h = runTransformer(attention, before, inputs);
        before.dispose();
      }
      results.push(h);
    });
    if (this.#downsample !== null) results.push(this.#downsample.forward(h));
    return results;
  }
}

/** `UNetMidBlock2DCrossAttn`. */
export class MidBlock extends Module {
  readonly #attention: Transformer2DModel;
  readonly #resnets: readonly [ResnetBlock2D, ResnetBlock2D];

  constructor(
    channels: number,
    options: LevelOptions & { attention: NonNullable<LevelOptions['attention']> },
  ) {
    super();
    this.#attention = this.child('attentions.0', transformer(channels, options) as Transformer2DModel);
    const resnet = () => new ResnetBlock2D({ ...options, inChannels: channels, outChannels: channels });
    this.#resnets = [this.child('resnets.0', resnet()), this.child('resnets.1', resnet())];
  }

  /** x stays the caller's. */
  forward(x: tf.Tensor4D, inputs: BlockInputs): tf.Tensor4D {
    const first = runResnet(this.#resnets[0], x, inputs);
    const second = runTransformer(this.#attention, first, inputs);
    first.dispose();
    const third = runResnet(this.#resnets[1], second, inputs);
    second.dispose();
    return third;
  }
}

export interface UpChannels {
  /** Width of what comes from the level below. */
  readonly previous: number;
  /** Width of the skip connection that the last residual block takes. */
  readonly skip: number;
  readonly out: number;
}

/** `UpBlock2D` and `CrossAttnUpBlock2D`. */
export class UpBlock extends Module {
  readonly #resnets: readonly ResnetBlock2D[];
  readonly #attentions: readonly Transformer2DModel[];
  readonly #upsample: Upsample2D | null;

  constructor(channels: UpChannels, layers: number, upsample: boolean, options: LevelOptions) {
    super();
    const { previous, skip, out } = channels;
    const indices = Array.from({ length: layers }, (_, index) => index);
    const transformers = indices.flatMap(() => transformer(out, options) ?? []);
    this.#attentions = this.children('attentions', transformers);
    const width = (i: number) => (i === 0 ? previous : out) + (i === layers - 1 ? skip : out);
    this.#resnets = this.children(
      'resnets',
      indices.map((i) => new ResnetBlock2D({ ...options, inChannels: width(i), outChannels: out })),
    );
    this.#upsample = upsample ? this.child('upsamplers.0', new Upsample2D(out)) : null;
  }

  /** Takes its skip connections from the end of `skips`; disposes them and x. */
  forward(x: tf.Tensor4D, skips: tf.Tensor4D[], inputs: BlockInputs): tf.Tensor4D {
    let h = x;
    const replace = (next: tf.Tensor4D) => {
      h.dispose();
      h = next;
    };
    this.#resnets.forEach((resnet, index) => {
      const skip = skips.pop() as tf.Tensor4D;
      replace(concatChannels(h, skip));
      skip.dispose();
      replace(runResnet(resnet, h, inputs));
      const attention = this.#attentions[index];
      if (attention !== undefined) replace(runTransformer(attention, h, inputs));
    });
    if (this.#upsample !== null) {
      // Twice the size, or one less where the level above had an odd side.
      const { shape } = skips[skips.length - 1] as tf.Tensor4D;
      replace(this.#upsample.forward(h, [shape[1], shape[2]]));
    }
    return h;
  }
}
