/**
 * ITI-GEN's learning beside the published way in PyTorch, on this CPU: CLIP ViT-L/14 with random weights, 108
 * combinations (2 x 6 x 9), 25 references per category, 450 updates. Times a few updates of each, taking turns, and
 * scales them to the whole.
 *
 *   node --import=tsx --conditions=equipoise-source tools/peers/iti-gen-speed.ts
 *     [--python python3] [--threads 2] [--rounds 3] [--images 4] [--precision f32,bf16] [--out result.json]
 */
import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import os from 'node:os';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { setPrecision, useEngine } from '@equipoise/backend';
import { PhiloxSequence } from '@equipoise/core';
import { type AttributeFeatures, InclusiveTrainer, TRAIN_DEFAULTS } from '@equipoise/iti-gen';
import { CLIPModel } from '@equipoise/models';
import * as tf from '@tensorflow/tfjs-core';

const ATTRIBUTES = { Male: 2, Skin_tone: 6, Age: 9 };
const REFERENCES = 25;
const { epochs: EPOCHS, updatesPerEpoch: UPDATES } = TRAIN_DEFAULTS;
/** Start, "a headshot of a person", end. */
const PROMPT = [320, 39463, 539, 320, 2533];

const L14 = {
  projection_dim: 768,
  text_config: {
    hidden_size: 768,
    intermediate_size: 3072,
    num_hidden_layers: 12,
    num_attention_heads: 12,
    projection_dim: 768,
    vocab_size: 49408,
    max_position_embeddings: 77,
    hidden_act: 'quick_gelu',
    eos_token_id: 49407,
  },
  vision_config: {
    hidden_size: 1024,
    intermediate_size: 4096,
    num_hidden_layers: 24,
    num_attention_heads: 16,
    projection_dim: 768,
    image_size: 224,
    patch_size: 14,
    hidden_act: 'quick_gelu',
  },
};

const text = (fallback: string) => ({ type: 'string', default: fallback }) as const;
const { values } = parseArgs({
  options: {
    python: text('python3'),
    threads: text('2'),
    rounds: text('3'),
    images: text('4'),
    precision: text('f32,bf16'),
    out: text(''),
  },
});
const [threads, rounds, imageCount] = [values.threads, values.rounds, values.images].map(Number) as [
  number,
  number,
  number,
];
const precisions = values.precision.split(',') as ('f32' | 'bf16')[];

/** The peer process. */
class Published {
  readonly #child = spawn(values.python, [fileURLToPath(new URL('iti_gen_published.py', import.meta.url))], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  readonly #lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();

  async ask(request: object): Promise<Record<string, number>> {
    this.#child.stdin.write(`${JSON.stringify(request)}\n`);
    const { value, done } = await this.#lines.next();
    if (done) throw new Error(`${values.python} ended early`);
    const reply = JSON.parse(value) as Record<string, number> & { error?: string };
    if (reply.error !== undefined) throw new Error(reply.error);
    return reply;
  }

  close(): void {
    this.#child.stdin.end();
  }
}

const seconds = async (work: () => Promise<unknown>): Promise<number> => {
  const start = performance.now();
  await work();
  return (performance.now() - start) / 1000;
};

function trainer(clip: CLIPModel, epochs: number): InclusiveTrainer {
  const random = new PhiloxSequence(3);
  const attributes = Object.entries(ATTRIBUTES).map(([name, count]) => ({
    name,
    categories: Array.from({ length: count }, (_, k) => ({ name: `${k}`, images: [] })),
  }));
  const features = attributes.map(({ categories }): AttributeFeatures => {
    const count = categories.length * REFERENCES;
    return {
      features: Float32Array.from({ length: count * 768 }, () => random.uniform() - 0.5),
      labels: Int32Array.from({ length: count }, (_, i) => Math.floor(i / REFERENCES)),
      depth: 768,
    };
  });
  const tokenizer = { encode: () => PROMPT, bosId: 49406, eosId: 49407, padId: 49407, modelMaxLength: 77 };
  // One update of each attribute an epoch: it costs the same however many make an epoch.
  const options = {
    ...TRAIN_DEFAULTS,
    updatesPerEpoch: 1,
    prompt: 'fixture',
    epochs,
    compat: 'reference' as const,
  };
  return new InclusiveTrainer(attributes, features, clip, tokenizer, options);
}

/** Seconds of one update, the mean over the attributes, and of the features of one image. */
interface Timing {
  readonly update: number;
  readonly image: number;
}

/** A model and a trainer, warmed up; each call measures once. */
async function ours(precision: 'f32' | 'bf16'): Promise<() => Promise<Timing>> {
  setPrecision(precision);
  const clip = CLIPModel.random(L14, 1, { storage: precision });
  const learner = trainer(clip, EPOCHS);
  const pixels = tf.randomNormal<tf.Rank.R4>([imageCount, 224, 224, 3]);
  const features = async (): Promise<void> => {
    const result = tf.tidy(() => clip.imageFeatures(pixels));
    await result.data();
    result.dispose();
  };
  const measure = async (): Promise<Timing> => {
    setPrecision(precision);
    const update = (await seconds(() => learner.epochStep())) / Object.keys(ATTRIBUTES).length;
    return { update, image: (await seconds(features)) / imageCount };
  };
  await measure();
  return measure;
}

await useEngine('equipoise-cpu');
const counts = Object.values(ATTRIBUTES);
const updates = EPOCHS * UPDATES * counts.length;
const references = counts.reduce((sum, count) => sum + count * REFERENCES, 0);
/** The published way encodes each attribute's batch in each of its steps: every image once an epoch. */
const imagesEncoded = EPOCHS * references;

const peer = new Published();
await peer.ask({ op: 'load', threads });
const measured: Record<string, Timing[]> = { published: [] };
const own = new Map<string, () => Promise<Timing>>();
for (const precision of precisions) own.set(precision, await ours(precision));
// The first call of each kind warms caches and allocators.
await peer.ask({ op: 'images', count: 2 });
for (let round = 0; round < rounds; round++) {
  // Attributes take turns; their updates differ in the looped loss alone.
  const update = (await peer.ask({ op: 'text', attribute: round % counts.length })).seconds as number;
  const image = ((await peer.ask({ op: 'images', count: imageCount })).seconds as number) / imageCount;
  measured['published']?.push({ update, image });
  console.error(`published, round ${round + 1}`, measured['published']?.at(-1));
  for (const precision of precisions) {
    const timing = (await own.get(precision)?.()) as Timing;
    measured[precision] = [...(measured[precision] ?? []), timing];
    console.error(`ours ${precision}, round ${round + 1}`, timing);
  }
}
peer.close();

const best = (name: string, key: 'update' | 'image'): number =>
  Math.min(...(measured[name] ?? []).map((timing) => timing[key]));
const published = updates * best('published', 'update') + imagesEncoded * best('published', 'image');
const result = {
  machine: { cpu: os.cpus()[0]?.model, threads, load: os.loadavg().map((x) => Number(x.toFixed(1))) },
  task: {
    combinations: counts.reduce((a, b) => a * b, 1),
    updates,
    references,
    imagesEncodedByPublished: imagesEncoded,
  },
  published: {
    secondsPerUpdate: best('published', 'update'),
    secondsPerImage: best('published', 'image'),
    seconds: published,
  },
  ours: Object.fromEntries(
    precisions.map((precision) => {
      const [update, image] = [best(precision, 'update'), best(precision, 'image')];
      const whole = updates * update + references * image;
      const entry = {
        secondsPerUpdate: update,
        secondsPerImage: image,
        seconds: whole,
        times: published / whole,
      };
      return [precision, { ...entry, timesWithFeaturesCached: published / (updates * update) }];
    }),
  ),
  rounds: measured,
};
console.log(JSON.stringify(result, null, 2));
if (values.out !== '') writeFileSync(values.out, `${JSON.stringify(result, null, 2)}\n`);
