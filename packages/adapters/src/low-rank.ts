/**
 * One low-rank update of one linear layer: LoRA (Hu et al. 2021) or DoRA (Liu et al. 2024), as PEFT defines them.
 */
import { doraLinear, doraNorm, randomNormal, randomUniform } from '@equipoise/backend';
import { invalid } from '@equipoise/core';
import type { Linear } from '@equipoise/models';
import * as tf from '@tensorflow/tfjs-core';

/** How the down projection starts; the up projection always starts at zero, so a new adapter changes nothing. */
export type AdapterInit =
  /** A ~ N(0, 1/r^2): PEFT's `init_lora_weights="gaussian"`. */
  | 'gaussian'
  /** A ~ U(-1/sqrt(in), 1/sqrt(in)): PEFT's default (Kaiming uniform with a = sqrt 5). */
  | 'kaiming';

/** The trained numbers of a low-rank update. */
export interface LowRankTensors {
  /** Down projection [r, in]. */
  readonly down: tf.Tensor2D;
  /** Up projection [out, r]. */
  readonly up: tf.Tensor2D;
  /** DoRA's magnitude [out]; null for plain LoRA. */
  readonly magnitude: tf.Tensor1D | null;
}

export class LowRankUpdate {
  readonly down: tf.Variable;
  readonly up: tf.Variable;
  readonly magnitude: tf.Variable | null;
  readonly rank: number;
  /** |W + s B A| per row, and the scaling it was computed for; it changes only when W, A, B or s do. */
  #norm: { scaling: number; value: tf.Tensor1D } | null = null;
  /** W as it was before any adapter was merged into it. */
  unmergedWeight: () => tf.Tensor = () => this.layer.weight.value;

  /**
   * Copies the given tensors into trainable variables.
   *
   * @param scaling s = alpha / r
   */
  constructor(
    readonly layer: Linear,
    tensors: LowRankTensors,
    readonly scaling: number,
  ) {
    const { down, up, magnitude } = tensors;
    this.rank = down.shape[0];
    const { inFeatures, outFeatures } = layer;
    if (down.shape[1] !== inFeatures) throw invalid('lora_A', `[${this.rank}, ${inFeatures}]`, down.shape);
    if (up.shape[0] !== outFeatures || up.shape[1] !== this.rank) {
      throw invalid('lora_B', `[${outFeatures}, ${this.rank}]`, up.shape);
    }
    if (magnitude !== null && magnitude.shape[0] !== outFeatures) {
      throw invalid('lora_magnitude_vector', `[${outFeatures}]`, magnitude.shape);
    }
    this.down = tf.variable(down, true);
    this.up = tf.variable(up, true);
    this.magnitude = magnitude === null ? null : tf.variable(magnitude, true);
  }

  /** A fresh update: A drawn from stream `stream` of `seed`, B zero, the magnitude the row norms of W. */
  static fresh(
    layer: Linear,
    options: {
      rank: number;
      scaling: number;
      init: AdapterInit;
      dora: boolean;
      seed: number;
      stream: bigint;
    },
  ): LowRankUpdate {
    const { rank, scaling, init, dora, seed, stream } = options;
    const shape: [number, number] = [rank, layer.inFeatures];
    const bound = 1 / Math.sqrt(layer.inFeatures);
    const down = tf.tidy(() =>
      init === 'gaussian'
        ? tf.mul(randomNormal<tf.Rank.R2>(shape, { seed, stream }), 1 / rank)
        : tf.sub(tf.mul(randomUniform<tf.Rank.R2>(shape, { seed, stream }), 2 * bound), bound),
    ) as tf.Tensor2D;
    const up = tf.zeros<tf.Rank.R2>([layer.outFeatures, rank]);
    const magnitude = dora ? doraNorm(layer.weight.value, down, up, scaling) : null;
    const update = new LowRankUpdate(layer, { down, up, magnitude }, scaling);
    tf.dispose([down, up, ...(magnitude === null ? [] : [magnitude])]);
    return update;
  }

  get isDora(): boolean {
    return this.magnitude !== null;
  }

  variables(): tf.Variable[] {
    return this.magnitude === null ? [this.down, this.up] : [this.down, this.up, this.magnitude];
  }

  /** Must be called whenever A, B or the unmerged weight changed, so that DoRA's norm is computed anew. */
  changed(): void {
    this.#norm?.value.dispose();
    this.#norm = null;
  }

  /**
   * Row norms of W + s B A, computed once until {@link changed}. No gradient flows through them. W is the unmerged
   * weight, as in PEFT: an adapter does the same whether those before it are merged or not.
   */
  norm(scaling: number): tf.Tensor1D {
    if (this.#norm === null || this.#norm.scaling !== scaling) {
      this.changed();
      this.#norm = { scaling, value: tf.keep(doraNorm(this.unmergedWeight(), this.down, this.up, scaling)) };
    }
    return this.#norm.value;
  }

  /** The adapted layer in one kernel: c (x W^T + s (x A^T) B^T) + b. `weight` scales the update. */
  forward(x: tf.Tensor, weight: number): tf.Tensor {
    const scaling = this.scaling * weight;
    return doraLinear(x, {
      weight: this.layer.weight.value,
      bias: this.layer.bias?.value ?? null,
      loraA: this.down,
      loraB: this.up,
      magnitude: this.magnitude,
      scaling,
      ...(this.magnitude !== null && { norm: this.norm(scaling) }),
    });
  }

  /** `base` with this update on top, when other updates already contributed to it (PEFT's order of adapters). */
  addTo(base: tf.Tensor, x: tf.Tensor, weight: number): tf.Tensor {
    const scaling = this.scaling * weight;
    const low = tf.mul(scaling, times(times(x, this.down), this.up));
    if (this.magnitude === null) return tf.add(base, low);
    const c = tf.div(this.magnitude, this.norm(scaling));
    const unbiased = this.layer.bias === null ? base : tf.sub(base, this.layer.bias.value);
    return tf.add(tf.add(base, tf.mul(tf.sub(c, 1), unbiased)), tf.mul(c, low));
  }

  /** `weightMatrix` [out, in] with this update merged in: diag(c) (W + s B A), c = magnitude / {@link norm}. */
  mergeInto(weightMatrix: tf.Tensor2D, weight: number): tf.Tensor2D {
    return tf.tidy(() => {
      const scaling = this.scaling * weight;
      const merged = tf.add(
        weightMatrix,
        tf.mul(scaling, tf.matMul(this.up as tf.Tensor2D, this.down as tf.Tensor2D)),
      );
      if (this.magnitude === null) return merged as tf.Tensor2D;
      return tf.mul(merged, tf.expandDims(tf.div(this.magnitude, this.norm(scaling)), 1)) as tf.Tensor2D;
    });
  }

  dispose(): void {
    this.changed();
    for (const variable of this.variables()) variable.dispose();
  }
}

/** x [..., K] times matrix^T, matrix [N, K]. */
function times(x: tf.Tensor, matrix: tf.Tensor): tf.Tensor {
  const rows = tf.reshape(x, [-1, matrix.shape[1] as number]) as tf.Tensor2D;
  const product = tf.matMul(rows, matrix as tf.Tensor2D, false, true);
  return tf.reshape(product, [...x.shape.slice(0, -1), matrix.shape[0] as number]);
}
