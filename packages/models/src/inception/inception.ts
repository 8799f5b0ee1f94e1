/**
 * Inception v3 as the Frechet Inception Distance uses it (Heusel et al. 2017): the network of 2015-12-05 with 1008
 * classes, read at its last pooling layer. It differs from the published Inception v3 (Szegedy et al. 2016) in three
 * places: average pooling does not count padding, the last block pools by the maximum, and nothing follows the pool.
 *
 * Weights: pytorch-fid's state dict (torchvision's names) as safetensors. Batch normalisation is folded into the
 * convolutions when they are loaded.
 */
import { conv2d, uploadWeight } from '@equipoise/backend';
import { invalid } from '@equipoise/core';
import { readFloat32, type TensorSource } from '@equipoise/weights';
import * as tf from '@tensorflow/tfjs-core';
import type { RgbImage } from '../image/index.js';
import { type InceptionResize, inceptionPixels } from './preprocess.js';

/** Numbers per image. */
export const INCEPTION_FEATURES = 2048;
/** Of the batch normalisations. */
const EPSILON = 1e-3;

/** Output channels, kernel [height, width], stride and padding [vertical, horizontal] of a convolution. */
interface Convolution {
  readonly name: string;
  readonly output: number;
  readonly kernel: readonly [number, number];
  readonly stride: number;
  readonly pad: readonly [number, number];
}

interface LoadedConvolution extends Convolution {
  readonly filter: tf.Tensor4D;
  readonly bias: tf.Tensor1D;
}

/** A convolution by its name within a block: square kernel, padded to keep the size unless it strides. */
function square(
  name: string,
  output: number,
  kernel: number,
  stride = 1,
  padded = stride === 1,
): Convolution {
  const pad = padded ? (kernel - 1) / 2 : 0;
  return { name, output, kernel: [kernel, kernel], stride, pad: [pad, pad] };
}

/** A convolution along one axis. */
function line(name: string, output: number, kernel: readonly [number, number]): Convolution {
  return { name, output, kernel, stride: 1, pad: [(kernel[0] - 1) / 2, (kernel[1] - 1) / 2] };
}

const wide = [1, 7] as const;
const tall = [7, 1] as const;

/** What follows the input of a block: chains of convolutions side by side, and a pooling. */
interface Block {
  readonly name: string;
  readonly branches: readonly Branch[];
  /** Before its convolution, if it has one. */
  readonly pool: {
    readonly kind: 'average' | 'maximum';
    readonly stride: 1 | 2;
    readonly convolution?: Convolution;
  };
}

interface Branch {
  readonly chain: readonly Convolution[];
  /** Two more convolutions side by side at the end of the chain. */
  readonly fork?: readonly [Convolution, Convolution];
}

function blockA(name: string, pooled: number): Block {
  return {
    name,
    branches: [
      { chain: [square('branch1x1', 64, 1)] },
      { chain: [square('branch5x5_1', 48, 1), square('branch5x5_2', 64, 5)] },
      {
        chain: [
          square('branch3x3dbl_1', 64, 1),
          square('branch3x3dbl_2', 96, 3),
          square('branch3x3dbl_3', 96, 3),
        ],
      },
    ],
    pool: { kind: 'average', stride: 1, convolution: square('branch_pool', pooled, 1) },
  };
}

function blockB(name: string): Block {
  return {
    name,
    branches: [
      { chain: [square('branch3x3', 384, 3, 2)] },
      {
        chain: [
          square('branch3x3dbl_1', 64, 1),
          square('branch3x3dbl_2', 96, 3),
          square('branch3x3dbl_3', 96, 3, 2),
        ],
      },
    ],
    pool: { kind: 'maximum', stride: 2 },
  };
}

function blockC(name: string, inner: number): Block {
  return {
    name,
    branches: [
      { chain: [square('branch1x1', 192, 1)] },
      {
        chain: [
          square('branch7x7_1', inner, 1),
          line('branch7x7_2', inner, wide),
          line('branch7x7_3', 192, tall),
        ],
      },
      {
        chain: [
          square('branch7x7dbl_1', inner, 1),
          line('branch7x7dbl_2', inner, tall),
          line('branch7x7dbl_3', inner, wide),
          line('branch7x7dbl_4', inner, tall),
          line('branch7x7dbl_5', 192, wide),
        ],
      },
    ],
    pool: { kind: 'average', stride: 1, convolution: square('branch_pool', 192, 1) },
  };
}

function blockD(name: string): Block {
  return {
    name,
    branches: [
      { chain: [square('branch3x3_1', 192, 1), square('branch3x3_2', 320, 3, 2)] },
      {
        chain: [
          square('branch7x7x3_1', 192, 1),
          line('branch7x7x3_2', 192, wide),
          line('branch7x7x3_3', 192, tall),
          square('branch7x7x3_4', 192, 3, 2),
        ],
      },
    ],
    pool: { kind: 'maximum', stride: 2 },
  };
}

function blockE(name: string, kind: 'average' | 'maximum'): Block {
  const fork = (prefix: string): [Convolution, Convolution] => [
    line(`${prefix}a`, 384, [1, 3]),
    line(`${prefix}b`, 384, [3, 1]),
  ];
  return {
    name,
    branches: [
      { chain: [square('branch1x1', 320, 1)] },
      { chain: [square('branch3x3_1', 384, 1)], fork: fork('branch3x3_2') },
      {
        chain: [square('branch3x3dbl_1', 448, 1), square('branch3x3dbl_2', 384, 3)],
        fork: fork('branch3x3dbl_3'),
      },
    ],
    pool: { kind, stride: 1, convolution: square('branch_pool', 192, 1) },
  };
}

/** Before the blocks; `pool` after the second and the last. */
const STEM: readonly Convolution[] = [
  square('Conv2d_1a_3x3', 32, 3, 2),
  square('Conv2d_2a_3x3', 32, 3, 1, false),
  square('Conv2d_2b_3x3', 64, 3),
  square('Conv2d_3b_1x1', 80, 1),
  square('Conv2d_4a_3x3', 192, 3, 1, false),
];
const POOLED_AFTER = new Set(['Conv2d_2b_3x3', 'Conv2d_4a_3x3']);

const BLOCKS: readonly Block[] = [
  blockA('Mixed_5b', 32),
  blockA('Mixed_5c', 64),
  blockA('Mixed_5d', 64),
  blockB('Mixed_6a'),
  blockC('Mixed_6b', 128),
  blockC('Mixed_6c', 160),
  blockC('Mixed_6d', 160),
  blockC('Mixed_6e', 192),
  blockD('Mixed_7a'),
  blockE('Mixed_7b', 'average'),
  blockE('Mixed_7c', 'maximum'),
];

/** Where weights come from: an open safetensors file. */
export interface InceptionWeights {
  get(name: string): TensorSource;
}

export class InceptionV3 {
  readonly #convolutions: ReadonlyMap<string, LoadedConvolution>;

  private constructor(convolutions: ReadonlyMap<string, LoadedConvolution>) {
    this.#convolutions = convolutions;
  }

  /** @throws EquipoiseError when a tensor is absent or has another shape */
  static async load(weights: InceptionWeights): Promise<InceptionV3> {
    const loaded = new Map<string, LoadedConvolution>();
    const load = async (prefix: string, own: Convolution, input: number): Promise<number> => {
      const name = prefix === '' ? own.name : `${prefix}.${own.name}`;
      loaded.set(name, { ...own, ...(await foldedWeights(weights, name, own, input)) });
      return own.output;
    };
    let channels = 3;
    for (const own of STEM) channels = await load('', own, channels);
    for (const { name, branches, pool } of BLOCKS) {
      let outputs = 0;
      for (const { chain, fork } of branches) {
        let inner = channels;
        for (const own of chain) inner = await load(name, own, inner);
        outputs += fork === undefined ? inner : 0;
        for (const own of fork ?? []) outputs += await load(name, own, inner);
      }
      channels =
        outputs + (pool.convolution === undefined ? channels : await load(name, pool.convolution, channels));
    }
    return new InceptionV3(loaded);
  }

  /**
   * Pooled features [B, 2048] of pixels [B, 299, 299, 3] in [-1, 1].
   */
  forward(pixels: tf.Tensor4D): tf.Tensor2D {
    return tf.tidy(() => {
      let x = pixels;
      for (const { name } of STEM) {
        x = this.#convolve(x, name);
        if (POOLED_AFTER.has(name)) x = tf.maxPool(x, 3, 2, 'valid');
      }
      for (const block of BLOCKS) x = this.#block(x, block);
      return tf.mean(x, [1, 2]) as tf.Tensor2D;
    });
  }

  /** Features of images, resized as `resize` says. */
  features(images: readonly RgbImage[], resize: InceptionResize = 'clean'): tf.Tensor2D {
    return tf.tidy(() => this.forward(inceptionPixels(images, resize)));
  }

  #block(x: tf.Tensor4D, { name, branches, pool }: Block): tf.Tensor4D {
    return tf.tidy(() => {
      const outputs: tf.Tensor4D[] = [];
      for (const { chain, fork } of branches) {
        let y = x;
        for (const own of chain) y = this.#convolve(y, `${name}.${own.name}`);
        if (fork === undefined) outputs.push(y);
        for (const own of fork ?? []) outputs.push(this.#convolve(y, `${name}.${own.name}`));
      }
      const padding = pool.stride === 1 ? 'same' : 'valid';
      // TensorFlow's average over "same" windows leaves padding out of the count, as this network does.
      const pooled =
        pool.kind === 'average'
          ? tf.avgPool(x, 3, pool.stride, padding)
          : tf.maxPool(x, 3, pool.stride, padding);
      outputs.push(
        pool.convolution === undefined ? pooled : this.#convolve(pooled, `${name}.${pool.convolution.name}`),
      );
      return tf.concat(outputs, 3);
    });
  }

  #convolve(x: tf.Tensor4D, name: string): tf.Tensor4D {
    const { filter, bias, stride, pad } = this.#convolutions.get(name) as LoadedConvolution;
    return conv2d(x, filter, bias, {
      stride,
      pad: [
        [pad[0], pad[0]],
        [pad[1], pad[1]],
      ],
      activation: 'relu',
    }) as tf.Tensor4D;
  }

  /** Frees the weights. */
  dispose(): void {
    for (const { filter, bias } of this.#convolutions.values()) tf.dispose([filter, bias]);
  }
}

async function foldedWeights(
  weights: InceptionWeights,
  name: string,
  { output, kernel }: Convolution,
  input: number,
): Promise<{ filter: tf.Tensor4D; bias: tf.Tensor1D }> {
  const take = async (part: string, shape: readonly number[]): Promise<Float32Array> => {
    const source = weights.get(`${name}.${part}`);
    if (source.shape.join() !== shape.join())
      throw invalid(`${name}.${part}`, `shape [${shape}]`, source.shape, { code: 'corrupt' });
    return readFloat32(source);
  };
  const shape = [output, input, ...kernel];
  const filter = Float32Array.from(await take('conv.weight', shape));
  const [scale, shift, mean, variance] = (await Promise.all(
    ['weight', 'bias', 'running_mean', 'running_var'].map((part) => take(`bn.${part}`, [output])),
  )) as [Float32Array, Float32Array, Float32Array, Float32Array];
  const bias = new Float32Array(output);
  const size = filter.length / output;
  for (let o = 0; o < output; o++) {
    const factor = (scale[o] as number) / Math.sqrt((variance[o] as number) + EPSILON);
    for (let i = o * size; i < (o + 1) * size; i++) filter[i] = (filter[i] as number) * factor;
    bias[o] = (shift[o] as number) - (mean[o] as number) * factor;
  }
  // Torch keeps [out, in, height, width], the device [height, width, in, out].
  return {
    filter: tf.keep(
      uploadWeight(bytesOf(filter), shape, 'F32', { storage: 'f32', layout: 'oihw' }),
    ) as tf.Tensor4D,
    bias: tf.keep(uploadWeight(bytesOf(bias), [output], 'F32', { storage: 'f32' })) as tf.Tensor1D,
  };
}

function bytesOf(values: Float32Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}
