/** Whole jobs on the embedded model: pictures, scored pairs, and updates of both trainings. */
import { join } from 'node:path';
import { createAdapter } from '@equipoise/adapters';
import { type Precision, setPrecision } from '@equipoise/backend';
import { PhiloxStream } from '@equipoise/core';
import {
  type Attribute,
  type AttributeFeatures,
  InclusiveTrainer,
  loadClip,
  TRAIN_DEFAULTS,
} from '@equipoise/iti-gen';
import { allSavings, FINE_TUNE_DEFAULTS, FineTuner, openParts, sampleCandidates } from '@equipoise/mi-tune';
import { SHIPPED_WEIGHTS, suitePrompts } from '@equipoise/tiny-world';

export interface OpenJob {
  /** One call of the job, until its results could be read. */
  once(): Promise<void>;
  close(): void;
}

export interface Job {
  readonly name: string;
  readonly family: string;
  readonly precisions: readonly Precision[];
  /** What one call makes. */
  readonly units: { readonly name: string; readonly count: number };
  open(precision: Precision): Promise<OpenJob>;
}

const BOTH = ['f32', 'bf16'] as const;
const STEPS = 10;
const GUIDANCE = 4;

const IMAGES = 4;
const generate: Job = {
  name: `generate ${IMAGES} images, ${STEPS} steps`,
  family: 'generate',
  precisions: BOTH,
  units: { name: 'image', count: IMAGES },
  async open(storage) {
    const { pipeline } = await openParts(SHIPPED_WEIGHTS, { storage });
    const sampling = { sampler: 'ddim', steps: STEPS, guidance: GUIDANCE, imagesPerPrompt: IMAGES } as const;
    return {
      async once() {
        const { latents } = await pipeline.generate(
          { prompt: ['a red circle above a blue square'] },
          sampling,
        );
        latents.dispose();
      },
      close: () => pipeline.dispose(),
    };
  },
};

const PAIRS = 16;
const miSweep: Job = {
  name: `mi sweep ${PAIRS} pairs, ${STEPS} steps`,
  family: 'mi sweep',
  precisions: BOTH,
  units: { name: 'pair', count: PAIRS },
  async open(storage) {
    const { parts, pipeline } = await openParts(SHIPPED_WEIGHTS, { sampler: 'ddim', storage });
    const prompts = suitePrompts('color', 1, PAIRS / 4);
    const requests = prompts.flatMap(({ text: prompt }) =>
      Array.from({ length: 4 }, (_, candidate) => ({ prompt, candidate })),
    );
    const sampling = { seed: 1, steps: STEPS, guidance: GUIDANCE };
    return {
      async once() {
        const { latents } = await sampleCandidates(
          parts,
          requests,
          sampling,
          false,
          {},
          { savings: allSavings(true) },
        );
        latents.dispose();
      },
      close: () => pipeline.dispose(),
    };
  },
};

const UPDATES = 5;
const CATEGORIES = [2, 6];
/** Random unit vectors, eight of each category: what is learned matters to nobody here. */
function features(attribute: number, categories: number, depth: number): AttributeFeatures {
  const labels = Int32Array.from({ length: 8 * categories }, (_, i) => i % categories);
  const values = new PhiloxStream(7, attribute).fillNormal(new Float32Array(labels.length * depth));
  for (let row = 0; row < labels.length; row++) {
    const vector = values.subarray(row * depth, (row + 1) * depth);
    const norm = Math.hypot(...vector);
    for (const [i, value] of vector.entries()) vector[i] = value / norm;
  }
  return { features: values, labels, depth };
}

const itiGen: Job = {
  name: `iti-gen train ${UPDATES} updates, ${CATEGORIES.join(' x ')} categories`,
  family: 'iti-gen train',
  precisions: ['f32'],
  units: { name: 'update', count: UPDATES },
  async open() {
    const { clip, tokenizer } = await loadClip(join(SHIPPED_WEIGHTS, 'clip'), {
      otherwise: join(SHIPPED_WEIGHTS, 'tokenizer'),
    });
    const attributes: Attribute[] = CATEGORIES.map((count, a) => ({
      name: `attribute ${a}`,
      categories: Array.from({ length: count }, (_, c) => ({ name: `category ${c}`, images: [] })),
    }));
    const depth = clip.config.projection_dim;
    const data = CATEGORIES.map((count, a) => features(a, count, depth));
    const options = { ...TRAIN_DEFAULTS, prompt: 'a photo of a face', updatesPerEpoch: UPDATES };
    const trainer = new InclusiveTrainer(attributes, data, clip, tokenizer, options);
    return {
      once: async () => void (await trainer.epochStep()),
      close() {
        trainer.dispose();
        clip.dispose();
      },
    };
  },
};

const EXAMPLES = 8;
const ACCUMULATION = 2;
const miTune: Job = {
  name: `mi-tune train 1 update, ${ACCUMULATION} x ${EXAMPLES} examples`,
  family: 'mi-tune train',
  precisions: BOTH,
  units: { name: 'update', count: 1 },
  async open(storage) {
    const { parts, pipeline } = await openParts(SHIPPED_WEIGHTS, { storage });
    const config = { kind: 'dora', rank: 32, alpha: 32, init: 'gaussian' } as const;
    const adapter = createAdapter(
      parts.unet,
      'bench',
      { ...config, targets: ['to_q', 'to_k', 'to_v', 'to_out.0'] },
      0,
    );
    const [h, w, c] = parts.latentShape;
    const { max_position_embeddings: positions, hidden_size: width } = parts.textEncoder.config;
    const values = (stream: number, size: number) =>
      new PhiloxStream(11, stream).fillNormal(new Float32Array(size));
    const examples = Array.from({ length: EXAMPLES }, (_, i) => ({
      prompt: 'a red circle',
      latents: values(2 * i, h * w * c),
      states: values(2 * i + 1, positions * width),
    }));
    const options = {
      ...FINE_TUNE_DEFAULTS,
      learningRate: 1e-7,
      batch: EXAMPLES,
      accumulation: ACCUMULATION,
    };
    const tuner = new FineTuner(parts, [adapter], examples, options);
    return {
      once: async () => void (await tuner.update()),
      close() {
        tuner.dispose();
        adapter.remove();
        pipeline.dispose();
      },
    };
  },
};

export const jobs: readonly Job[] = [generate, miSweep, itiGen, miTune];

/** Opens a job with weights and activations of `precision`, which is the engine's from then on. */
export async function openJob(job: Job, precision: Precision): Promise<OpenJob> {
  setPrecision(precision);
  return job.open(precision);
}
