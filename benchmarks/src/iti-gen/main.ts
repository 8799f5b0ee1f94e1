/**
 * ITI-GEN's learning at full size: CLIP ViT-L/14 with random weights, 108 combinations (2 x 6 x 9), 25 references per
 * category, 450 updates. Times single updates and image features, and scales them to a whole training; with --python
 * beside the published way in PyTorch, taking turns (tools/peers/iti_gen_published.py):
 *
 *     npm run iti-gen -w benchmarks -- [--python PYTHON] [--images 4] [--precision f32|bf16|both] [--json FILE]
 */
import path from 'node:path';
import { CeilingProbe, currentDevice, type Precision, setPrecision, useEngine } from '@equipoise/backend';
import {
  defineOptions,
  type JobContext,
  type OptionsOf,
  option,
  PhiloxSequence,
  throwIfCancelled,
  z,
} from '@equipoise/core';
import { type AttributeFeatures, InclusiveTrainer, TRAIN_DEFAULTS } from '@equipoise/iti-gen';
import { CLIPModel } from '@equipoise/models';
import * as tf from '@tensorflow/tfjs-core';
import { LineProcess } from '../measure/line-process.js';
import { peerScripts, usePeers } from '../measure/peer.js';
import { medianRatio, medianSeconds, playRounds, type Round, timed } from '../measure/rounds.js';
import { median } from '../measure/statistics.js';
import { countWork, floorSeconds, totalWork } from '../measure/work.js';
import { benchmarkProgram, type Findings, jsonOption, pythonOption, roundOptions } from '../program.js';
import type { CaseRecord } from '../record.js';

const ATTRIBUTES = { Male: 2, Skin_tone: 6, Age: 9 };
const COUNTS = Object.values(ATTRIBUTES);
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

const options = defineOptions('iti-gen', {
  ...roundOptions(5, 0.001),
  images: option(z.int().min(1).max(1000).default(4), 'Images whose features are computed together.'),
  precision: option(z.enum(['f32', 'bf16', 'both']).default('both'), 'Storage precision.'),
  threads: option(z.int().min(1).max(1024).default(2), 'Threads of the peer, which computes in f32.'),
  python: pythonOption,
  json: jsonOption,
});
type Settings = OptionsOf<typeof options>;

function trainer(clip: CLIPModel): InclusiveTrainer {
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
  const learning = { ...TRAIN_DEFAULTS, updatesPerEpoch: 1, prompt: 'fixture', compat: 'reference' as const };
  return new InclusiveTrainer(attributes, features, clip, tokenizer, learning);
}

/** An update of every attribute, and the features of some images. */
type Calls = Readonly<Record<'update' | 'image', () => Promise<void>>>;

function openCalls(precision: Precision, images: number): { calls: Calls; close(): void } {
  setPrecision(precision);
  const clip = CLIPModel.random(L14, 1, { storage: precision });
  const learner = trainer(clip);
  const pixels = tf.randomNormal<tf.Rank.R4>([images, 224, 224, 3]);
  return {
    calls: {
      update: async () => void (await learner.epochStep()),
      async image() {
        const result = tf.tidy(() => clip.imageFeatures(pixels));
        await result.data();
        result.dispose();
      },
    },
    close() {
      learner.dispose();
      clip.dispose();
      pixels.dispose();
    },
  };
}

/** The peer's calls of the same amount of work. */
async function openPublished(python: string, { threads, images }: Settings) {
  const script = path.join(peerScripts, 'iti_gen_published.py');
  const process = new LineProcess('the published way', python, [script]);
  const seconds = async (request: object): Promise<number> =>
    (await process.ask<{ seconds: number }>(request)).seconds;
  await process.ask({ op: 'load', threads });
  await seconds({ op: 'images', count: 2 }); // warms caches and allocators
  let turn = 0;
  return {
    process,
    // Attributes take turns; their updates differ in the looped loss alone.
    update: async () => COUNTS.length * (await seconds({ op: 'text', attribute: turn++ % COUNTS.length })),
    image: () => seconds({ op: 'images', count: images }),
  };
}

const PUBLISHED = 'published';
type Published = Awaited<ReturnType<typeof openPublished>> | undefined;

async function measure(
  kind: keyof Calls,
  precision: Precision,
  call: () => Promise<void>,
  published: Published,
  settings: Settings,
  { probe, context: { signal } }: { probe: CeilingProbe; context: JobContext },
): Promise<CaseRecord> {
  await call(); // packs weights, fills caches
  const work = await countWork(call);
  const ceilings = () => {
    throwIfCancelled(signal, 'iti-gen');
    return probe.measure(precision);
  };
  const contestants = { ours: timed(call), ...(published && { [PUBLISHED]: published[kind] }) };
  const { rounds, seconds: budget, images } = settings;
  const { kept, discarded } = await playRounds(contestants, ceilings, { rounds, budget });
  const seconds = kept.map((round) => round.seconds.ours as number);
  const floors = kept.map((round) => floorSeconds(work, round.ceilings));
  const count = kind === 'update' ? COUNTS.length : images;
  return {
    id: `${kind === 'update' ? `${count} updates, ${COUNTS.join(' x ')} categories` : `features of ${count} images`} ${precision}`,
    family: kind,
    precision,
    kernels: [],
    ...totalWork(work),
    seconds,
    floors,
    units: { name: kind, count },
    peers: published === undefined ? {} : { [PUBLISHED]: publishedOf(kept, settings.threads) },
    peerProblems: {},
    ofCeiling: median(seconds.map((value, i) => (floors[i] as number) / value)),
    discarded,
  };
}

function publishedOf(kept: readonly Round[], threads: number): CaseRecord['peers'][string] {
  return {
    seconds: medianSeconds(kept, PUBLISHED),
    threads,
    ratio: medianRatio(kept, PUBLISHED, 'ours'),
    samples: kept.map((round) => round.seconds[PUBLISHED] as number),
  };
}

/** A whole training: ours encodes every reference once, the published way in each of its steps, once an epoch. */
function summarise(update: CaseRecord, image: CaseRecord): Record<string, number> {
  const updates = EPOCHS * UPDATES * COUNTS.length;
  const references = COUNTS.reduce((sum, count) => sum + count * REFERENCES, 0);
  const each = ({ units }: CaseRecord, seconds: number): number => seconds / (units?.count as number);
  const whole = (of: (item: CaseRecord) => number, images: number): number =>
    updates * each(update, of(update)) + images * each(image, of(image));
  const own = ({ seconds }: CaseRecord): number => median(seconds);
  const name = `${updates} updates ${update.precision}`;
  const ours = whole(own, references);
  if (update.peers[PUBLISHED] === undefined) return { [`${name}: seconds`]: ours };
  const theirs = whole(({ peers }) => peers[PUBLISHED]?.seconds as number, EPOCHS * references);
  return {
    [`${name}: seconds`]: ours,
    [`${name}: seconds, the published way`]: theirs,
    [`${name}: times the speed of the published way`]: theirs / ours,
    [`${name}: the same with image features cached`]: theirs / whole(own, 0),
  };
}

async function run(settings: Settings, context: JobContext): Promise<Findings> {
  const { python, versions: peerVersions, problem: peerProblem } = usePeers(settings.python);
  await useEngine('equipoise-cpu');
  const native = currentDevice()?.native;
  if (native === undefined) throw new Error('the equipoise-cpu engine did not start');
  const precisions = settings.precision === 'both' ? (['f32', 'bf16'] as const) : [settings.precision];
  const probe = new CeilingProbe(native);
  const published = python === undefined ? undefined : await openPublished(python, settings);
  const cases: CaseRecord[] = [];
  const summary: Record<string, number> = {};
  try {
    for (const [done, precision] of precisions.entries()) {
      context.onProgress?.({ task: precision, done, total: precisions.length, unit: 'precision' });
      const { calls, close } = openCalls(precision, settings.images);
      try {
        const timing = (kind: keyof Calls) =>
          measure(kind, precision, calls[kind], published, settings, { probe, context });
        const [update, image] = [await timing('update'), await timing('image')];
        cases.push(update, image);
        Object.assign(summary, summarise(update, image));
      } finally {
        close();
      }
    }
  } finally {
    probe.dispose();
    published?.process.kill();
    setPrecision('f32');
  }
  return { suite: 'iti-gen', cases, summary, peerVersions, peerProblem };
}

await benchmarkProgram(options, run);
