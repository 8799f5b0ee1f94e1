/**
 * Learning inclusive tokens (Zhang et al., "ITI-GEN", ICCV 2023, section 3; defaults of the published code).
 *
 * In every step each attribute in turn draws a batch of its references, forms the category means of their CLIP
 * features, computes the text features of all combinations of categories from the tokens, and takes one Adam step on
 * its own tokens along the direction-alignment and consistency loss. Nothing else is trained.
 */
import { type AdamWParameter, adamW, directionAlignmentLoss } from '@equipoise/backend';
import {
  EquipoiseError,
  invalid,
  type JobContext,
  PhiloxSequence,
  ProgressCounter,
  prose,
  streamId,
} from '@equipoise/core';
import type { CLIPModel, TextPrefix } from '@equipoise/models';
import type { TrainingState } from '@equipoise/weights';
import * as tf from '@tensorflow/tfjs-core';
import type { Attribute } from './attributes.js';
import { type AttributeFeatures, categoryMeans } from './features.js';
import { type Compat, PromptTemplate, type PromptTokenizer } from './prompt.js';
import { imageShifts, shiftShortfall } from './strength.js';
import { type AttributeTokens, type InclusiveTokens, type Join, joinTokens, slotCount } from './tokens.js';

export interface TrainOptions {
  readonly prompt: string;
  /** q: tokens per category. */
  readonly tokenLength: number;
  readonly join: Join;
  /** lambda: similarity to the plain prompt below which the consistency loss pulls. */
  readonly consistency: number;
  /** Shift of the texts, in shifts of the images, below which a loss of its own pulls; 0, as published: no such loss. */
  readonly strength: number;
  readonly learningRate: number;
  /** After this many epochs the learning rate is multiplied by `decay`. */
  readonly decayAfter: number;
  readonly decay: number;
  readonly epochs: number;
  /** Updates of each attribute per epoch. */
  readonly updatesPerEpoch: number;
  readonly seed: number;
  readonly compat: Compat;
}

/** The published code's defaults. */
export const TRAIN_DEFAULTS = {
  tokenLength: 3,
  join: 'sum',
  consistency: 0.8,
  strength: 0,
  learningRate: 0.01,
  decayAfter: 10,
  decay: 0.5,
  epochs: 30,
  updatesPerEpoch: 5,
  seed: 0,
  compat: 'paper',
} as const satisfies Omit<TrainOptions, 'prompt'>;

/** What is measured at one update of one attribute. */
export interface StepLog {
  readonly epoch: number;
  readonly step: number;
  readonly attribute: string;
  readonly loss: number;
  readonly direction: number;
  readonly consistency: number;
  /** What the texts' shifts lack; 0 where no strength is asked for. */
  readonly shortfall: number;
  /** True where the directions did not exist yet and the cosine loss stood in. */
  readonly fallback: boolean;
  /** Mean cosine between text and image direction of each pair (0,1), (0,2), ... */
  readonly pairCosine: readonly number[];
}

/** One attribute's variables. */
interface Learned extends AdamWParameter {
  /** The same tensor as {@link AdamWParameter.parameter}: [K, q, C]. */
  parameter: tf.Variable<tf.Rank.R3>;
}

/** Learns the tokens of one prompt for a set of attributes. Call {@link dispose} when done. */
export class InclusiveTrainer {
  readonly #learned: Learned[];
  /** Per attribute. */
  readonly #imageShifts: Float32Array[];
  readonly #template: PromptTemplate;
  readonly #prefix: TextPrefix;
  readonly #original: tf.Tensor1D;
  #epoch = 0;

  /** @param features of each attribute's references, in the order of `attributes` */
  constructor(
    readonly attributes: readonly Attribute[],
    readonly features: readonly AttributeFeatures[],
    readonly clip: CLIPModel,
    tokenizer: PromptTokenizer,
    readonly options: TrainOptions,
  ) {
    const { prompt, tokenLength, join, compat } = options;
    for (const [a, attribute] of attributes.entries()) this.#batchSize(a, attribute.name);
    const slots = slotCount(attributes.length, tokenLength, join);
    this.#template = PromptTemplate.create(prompt, slots, compat, clip.textModel, tokenizer);
    this.#prefix = this.#template.prefix();
    this.#original = tf.tidy(() => {
      const { pooled } = clip.textModel.forwardEmbeddings(clip.textModel.embed([this.#template.plainIds]), [
        this.#template.start,
      ]);
      return tf.squeeze<tf.Tensor1D>(clip.textProjection.forward(pooled), [0]);
    });
    this.#imageShifts = attributes.map(({ categories }, a) =>
      imageShifts(features[a] as AttributeFeatures, categories.length),
    );
    const width = clip.config.text.hidden_size;
    this.#learned = attributes.map(({ categories }) => {
      const shape: [number, number, number] = [categories.length, tokenLength, width];
      const zeros = (): tf.Variable<tf.Rank.R3> => tf.tidy(() => tf.variable(tf.zeros(shape), true));
      return { parameter: zeros(), gradient: this.#original, m: zeros(), v: zeros() };
    });
  }

  get epoch(): number {
    return this.#epoch;
  }

  /** Images per update: the references divided evenly over an epoch's updates. */
  #batchSize(a: number, name: string): number {
    const images = this.features[a]?.labels.length ?? 0;
    const size = Math.floor(images / this.options.updatesPerEpoch);
    if (size < 1)
      throw invalid(
        `attribute ${name}`,
        `at least ${this.options.updatesPerEpoch} reference images, one per update of an epoch`,
        images,
        { hints: ['Make fewer updates per epoch, or give more references.'] },
      );
    return size;
  }

  /**
   * Runs one epoch and returns its log.
   *
   * @throws EquipoiseError `numeric` at the first loss that is not finite; the tokens are then useless and the caller
   * goes back to its last checkpoint
   */
  async epochStep(context: JobContext = {}): Promise<StepLog[]> {
    const { updatesPerEpoch, learningRate, decay, decayAfter, seed } = this.options;
    const progress = new ProgressCounter(`iti-gen epoch ${this.#epoch + 1}/${this.options.epochs}`, context, {
      total: updatesPerEpoch,
      unit: 'update',
    });
    const order = this.attributes.map(({ name }, a) =>
      new PhiloxSequence(seed, streamId('shuffle', name, this.#epoch)).shuffle(
        Array.from({ length: this.features[a]?.labels.length ?? 0 }, (_, i) => i),
      ),
    );
    const rate = this.#epoch < decayAfter ? learningRate : learningRate * decay;
    const logs: StepLog[] = [];
    for (let step = 0; step < updatesPerEpoch; step++) {
      for (const [a, { name }] of this.attributes.entries()) {
        const size = this.#batchSize(a, name);
        const rows = (order[a] as number[]).slice(step * size, (step + 1) * size);
        logs.push(await this.#update(a, rows, rate, step));
      }
      progress.advance(1, liveValues(logs.slice(-this.attributes.length)));
    }
    this.#epoch++;
    return logs;
  }

  async #update(a: number, rows: readonly number[], learningRate: number, step: number): Promise<StepLog> {
    const { name, categories } = this.attributes[a] as Attribute;
    const features = this.features[a] as AttributeFeatures;
    const learned = this.#learned[a] as Learned;
    const { means, counts } = categoryMeans(features, rows, categories.length);
    const imageMeans = tf.tensor2d(means, [categories.length, features.depth]);
    const results: { parts?: tf.Tensor; pairCosine?: tf.Tensor; shortfall?: tf.Tensor } = {};
    const sizes = this.attributes.map((attribute) => attribute.categories.length);
    const { consistency, strength } = this.options;
    const { value, grads } = tf.variableGrads(() => {
      const text = this.textFeatures();
      const { loss, parts, pairCosine } = directionAlignmentLoss({
        text,
        original: this.#original,
        imageMeans,
        imageCounts: counts,
        categories: sizes,
        attribute: a,
        consistency,
      });
      results.parts = tf.keep(parts);
      results.pairCosine = tf.keep(pairCosine);
      if (strength === 0) return loss;
      const shortfall = shiftShortfall(text, this.#imageShifts[a] as Float32Array, sizes, a, strength);
      results.shortfall = tf.keep(shortfall);
      return tf.add(loss, shortfall) as tf.Scalar;
    }, [learned.parameter]);
    const gradient = grads[learned.parameter.name] as tf.Tensor;
    const update = this.#epoch * this.options.updatesPerEpoch + step + 1;
    const norm = adamW([{ ...learned, gradient }], { step: update, learningRate, weightDecay: 0 });
    const measured = [value, results.parts, results.pairCosine, results.shortfall];
    const [loss, parts, pairCosine, shortfall] = await Promise.all(measured.map((t) => t?.data()));
    tf.dispose([...measured, gradient, norm, imageMeans] as tf.Tensor[]);
    if (!Number.isFinite(loss?.[0])) {
      throw new EquipoiseError(
        'numeric',
        `iti-gen: the loss of attribute ${name} is ${loss?.[0]} at epoch ${this.#epoch + 1}, step ${step + 1}`,
        {
          hints: [
            'The last checkpoint and the tokens saved before it are sound.',
            'Start in another folder with a lower --learning-rate.',
          ],
        },
      );
    }
    return {
      epoch: this.#epoch,
      step,
      attribute: name,
      loss: loss?.[0] as number,
      direction: parts?.[0] as number,
      consistency: parts?.[1] as number,
      shortfall: shortfall?.[0] ?? 0,
      fallback: parts?.[2] === 1,
      pairCosine: [...(pairCosine ?? [])],
    };
  }

  /** Text features of every combination of categories [N, D], not normalised. Differentiable in the tokens. */
  textFeatures(): tf.Tensor2D {
    return tf.tidy(() => {
      const states = this.#template.readout(this.#joined(), this.#prefix);
      return this.clip.textProjection.forward(states) as tf.Tensor2D;
    });
  }

  /** The same features without the prefix shortcut, for comparison. */
  textFeaturesInFull(): tf.Tensor2D {
    return tf.tidy(() => {
      return this.clip.textProjection.forward(this.#template.readoutInFull(this.#joined())) as tf.Tensor2D;
    });
  }

  #joined(): tf.Tensor3D {
    return joinTokens(
      this.#learned.map(({ parameter }) => parameter),
      this.options.join,
    );
  }

  /** The tokens as they are now. */
  async tokens(clipHash: string): Promise<InclusiveTokens> {
    const attributes: AttributeTokens[] = [];
    for (const [a, { name, categories }] of this.attributes.entries()) {
      attributes.push({
        name,
        categories: categories.map((c) => c.name),
        values: await floats((this.#learned[a] as Learned).parameter),
      });
    }
    const { prompt, compat, join, tokenLength: length } = this.options;
    return {
      prompt,
      compat,
      join,
      length,
      width: this.clip.config.text.hidden_size,
      clip: clipHash,
      attributes,
    };
  }

  /** Everything that changes while learning; the position counts epochs, the tensors are the attributes' tokens. */
  async state(): Promise<TrainingState> {
    const tensors = [];
    for (const { parameter, m, v } of this.#learned)
      tensors.push({ value: await floats(parameter), m: await floats(m), v: await floats(v) });
    return { position: this.#epoch, tensors };
  }

  /** @throws EquipoiseError when the state has other attributes or sizes */
  restore(state: TrainingState): void {
    if (state.tensors.length !== this.#learned.length)
      throw invalid('state', `${this.#learned.length} attributes`, state.tensors.length, {
        code: 'conflict',
      });
    for (const [a, { value, m, v }] of state.tensors.entries()) {
      const learned = this.#learned[a] as Learned;
      for (const [variable, values] of [
        [learned.parameter, value],
        [learned.m, m],
        [learned.v, v],
      ] as const) {
        if (values.length !== variable.size)
          throw invalid(
            `state of ${this.attributes[a]?.name}`,
            `${variable.size} numbers`,
            prose(String(values.length)),
            { code: 'conflict' },
          );
        tf.tidy(() => variable.assign(tf.tensor(values, variable.shape as [number, number, number])));
      }
    }
    this.#epoch = state.position;
  }

  dispose(): void {
    for (const { parameter, m, v } of this.#learned) tf.dispose([parameter, m, v]);
    this.#prefix.dispose();
    this.#template.dispose();
    this.#original.dispose();
  }
}

/** What is shown while learning: the loss and the least cosine of a pair, of each attribute's last update. */
function liveValues(logs: readonly StepLog[]): Record<string, number> {
  return Object.fromEntries(
    logs.flatMap(({ attribute, loss, pairCosine }) => [
      [`${attribute} loss`, loss],
      [`${attribute} cosine`, Math.min(...pairCosine)],
    ]),
  );
}

async function floats(variable: tf.Tensor): Promise<Float32Array> {
  return Float32Array.from(await variable.data());
}
