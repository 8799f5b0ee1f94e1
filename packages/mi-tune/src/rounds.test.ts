/** Fine-tuning runs, rounds, real pictures, validation and evaluation, on a model of a few thousand weights. */
import fs from 'node:fs';
import path from 'node:path';
import { type AdapterConfig, ATTENTION_TARGETS, loadAdapter } from '@equipoise/adapters';
import { useEngine } from '@equipoise/backend';
import { encodePng } from '@equipoise/diffusion';
import { decodeImage } from '@equipoise/models';
import { renderReport } from '@equipoise/report';
import { readTrainingState } from '@equipoise/weights';
import * as tf from '@tensorflow/tfjs-core';
import t from 'tap';
import {
  type AlignmentScorer,
  bootstrapGroups,
  buildSet,
  categoryDifferences,
  categoryScores,
  decoderOf,
  encoderOf,
  evaluate,
  FINE_TUNE_DEFAULTS,
  mixRealImages,
  pictureName,
  type RoundsJob,
  readEvaluation,
  readImageFolder,
  readSet,
  runReport,
  runRounds,
  type SweepRow,
  scoreRealImages,
  sweep,
  type TuneJob,
  topCandidates,
  tuneJob,
  type Validation,
} from './index.js';
import { smallPipeline } from './testing.js';

await useEngine('equipoise-cpu');
const { parts, pipeline } = await smallPipeline();
const decode = decoderOf(pipeline);
const encode = encoderOf(pipeline, parts);
const folder = t.testdir();
const at = (...names: string[]): string => path.join(folder, ...names);

const prompts = ['a red circle', 'a blue square'];
const sampling = { seed: 3, steps: 4, guidance: 5 };
const adapter: AdapterConfig = {
  kind: 'dora',
  rank: 4,
  alpha: 4,
  init: 'gaussian',
  targets: ATTENTION_TARGETS,
};
const textAdapter: AdapterConfig = { ...adapter, kind: 'lora', targets: ['q_proj', 'v_proj'] };
const tune = { ...FINE_TUNE_DEFAULTS, batch: 2, accumulation: 1, updates: 4, learningRate: 1e-3, seed: 7 };
const redness: AlignmentScorer = {
  name: 'redness',
  hash: '1',
  score: async (images) =>
    images.map(({ data }) => data.reduce((sum, x, i) => sum + (i % 3 === 0 ? x : 0), 0)),
};
const validation: Validation = {
  every: 2,
  prompts: ['a cat'],
  images: 2,
  sampling,
  batch: 2,
  pictures: { scorers: [redness], decode },
  choose: 'redness',
};

const rows = await sweep({
  folder: at('sweep'),
  parts,
  options: { ...sampling, prompts, candidates: 3, batch: 3 },
});
await buildSet(at('set'), parts, { chosen: topCandidates(rows, 1) }, sampling, { batch: 2, decode });
const job = (name: string, changes: Partial<TuneJob> = {}): TuneJob => ({
  folder: at(name),
  parts,
  set: at('set'),
  adapter,
  options: tune,
  checkpointEvery: 2,
  ...changes,
});
const adapterBytes = (name: string): Buffer =>
  fs.readFileSync(at(name, 'adapter', 'pytorch_lora_weights.safetensors'));

t.test('validation picks the best checkpoint; an interrupted run ends in the same adapter', async (t) => {
  const before = tf.memory().numTensors;
  const whole = await tuneJob(job('whole', { validation }));
  whole.adapter.remove();
  t.equal(tf.memory().numTensors, before, 'nothing leaks');
  t.same(
    whole.validations.map(({ step }) => step),
    [0, 2, 4],
  );
  const best = whole.validations
    .filter(({ step }) => step > 0)
    .reduce((a, b) => ((b.scores.redness as number) > (a.scores.redness as number) ? b : a));
  t.same(whole.best, best);
  t.same(
    fs.readFileSync(at('whole', 'best', 'pytorch_lora_weights.safetensors')),
    fs.readFileSync(at('whole', `adapter-${best.step}`, 'pytorch_lora_weights.safetensors')),
  );
  t.equal(fs.readdirSync(at('whole', 'validation', 'step-2', 'pictures')).length, 2);
  const stop = new AbortController();
  await t.rejects(
    tuneJob(job('halves', { validation }), {
      signal: stop.signal,
      onProgress: ({ task, done }) => task === 'mi-tune' && done === 3 && stop.abort(),
    }),
    { code: 'cancelled' },
  );
  t.equal((await readTrainingState(at('halves', 'checkpoint.safetensors')))?.position, 2);
  await t.rejects(tuneJob({ ...job('halves', { validation }), parts: { ...parts, vaeHash: 'another' } }), {
    code: 'conflict',
    message: /holds a different run\n {2}input vae: "fixture vae" in the folder, "another" now$/,
  });
  const resumed = await tuneJob(job('halves', { validation }));
  resumed.adapter.remove();
  t.same(resumed.log, whole.log);
  t.same(resumed.validations, whole.validations);
  t.same(adapterBytes('halves'), adapterBytes('whole'), 'bit for bit');
  fs.truncateSync(at('halves', 'checkpoint.safetensors'), 100);
  await t.rejects(tuneJob(job('halves', { validation })), { code: 'corrupt', hints: [/^Delete the file/] });
  fs.rmSync(at('halves', 'checkpoint.safetensors'));
  const again = await tuneJob(job('halves', { validation }));
  again.adapter.remove();
  t.same(again.log, whole.log);
  t.same(adapterBytes('halves'), adapterBytes('whole'), 'after a damaged checkpoint, too');
  await t.rejects(tuneJob(job('whole', { validation, options: { ...tune, updates: 3 } })), {
    code: 'conflict',
    message: /updates: expected at least the 4 that the run has done, got 3/,
  });
  await t.rejects(tuneJob(job('whole', { validation, options: { ...tune, learningRate: 1 } })), {
    code: 'conflict',
    message: /option learningRate: 0.001 in the folder, 1 now/,
  });
  const file = at('whole', 'run.json');
  const { options, inputs, ...record } = JSON.parse(fs.readFileSync(file, 'utf8'));
  const { updates: steps, ...others } = options;
  const { vae: _, ...named } = inputs;
  fs.writeFileSync(file, JSON.stringify({ ...record, options: { ...others, steps }, inputs: named }));
  await t.rejects(tuneJob(job('whole', { validation })), {
    code: 'conflict',
    message:
      /holds a different run\n {2}input vae: "not recorded by an earlier version" in the folder, .* now$/,
  });
  const falling = { ...tune, decay: 'linear' } as const;
  (await tuneJob(job('falling', { options: falling }))).adapter.remove();
  await t.rejects(tuneJob(job('falling', { options: { ...falling, updates: 6 } })), {
    code: 'conflict',
    message: /option updates: 4 in the folder, 6 now/,
  });
  await t.rejects(tuneJob(job('bad', { validation: { ...validation, choose: 'clip' } })), {
    message: /validation score: expected one of mi, redness, got "clip"/,
  });
});

t.test('NaN stops the run; the last good checkpoint stays', async (t) => {
  let poisoned = false;
  const { unet } = parts;
  const forward = unet.forward.bind(unet);
  unet.forward = (...args) => (poisoned ? tf.mul(forward(...args), Number.NaN) : forward(...args));
  await t.rejects(
    tuneJob(job('nan'), {
      onProgress: ({ task, done }) => void (poisoned = task === 'mi-tune' && done >= 2),
    }),
    { code: 'numeric', message: /fine-tuning: loss NaN, gradient norm NaN at step 3/ },
  );
  unet.forward = forward;
  const state = await readTrainingState(at('nan', 'checkpoint.safetensors'));
  t.equal(state?.position, 2);
  t.ok(state?.tensors.every(({ value }) => value.every(Number.isFinite)));
  const saved = await loadAdapter(at('nan', 'adapter-2'), { unet });
  saved.remove();
  const { adapter: resumed } = await tuneJob(job('nan'));
  resumed.remove();
  (await tuneJob(job('never-nan'))).adapter.remove();
  t.same(adapterBytes('nan'), adapterBytes('never-nan'), 'and the run goes on from it');
});

t.test('UNet and text encoder together', async (t) => {
  const both = await tuneJob(job('text', { textAdapter }));
  t.same([...both.adapter.parts.keys()], ['unet', 'text_encoder']);
  const moved = both.adapter.parts.get('text_encoder')?.variables() ?? [];
  const ups = moved.filter((_, i) => i % 2 === 1);
  for (const up of ups)
    t.ok(
      (await up.data()).some((x) => x !== 0),
      'an up projection of the text encoder moves',
    );
  both.adapter.remove();
  const loaded = await loadAdapter(at('text', 'adapter'), {
    unet: parts.unet,
    text_encoder: parts.textEncoder,
  });
  t.same([...loaded.parts.keys()].sort(), ['text_encoder', 'unet']);
  loaded.remove();
  await t.rejects(tuneJob(job('text-bad', { textAdapter: { ...textAdapter, targets: ['to_q'] } })), {
    message: /targets: expected the name of a linear layer/,
  });
  await t.rejects(loadAdapter(at('text', 'adapter'), { unet: parts.textEncoder }), {
    code: /conflict|unsupported/,
  });
});

t.test('rounds', async (t) => {
  const rounds = (name: string, changes: Partial<RoundsJob> = {}): RoundsJob => ({
    folder: at(name),
    parts,
    prompts,
    sampling,
    candidates: 3,
    top: 1,
    selection: { by: 'mi' },
    batch: 3,
    rounds: 2,
    start: 'fresh',
    adapter,
    tune: { ...tune, updates: 2 },
    checkpointEvery: 2,
    ...changes,
  });
  const first = await runRounds(rounds('rounds', { rounds: 1 }));
  const two = await runRounds(rounds('rounds'));
  t.equal(first[0]?.adapter, two[0]?.adapter);
  t.equal(two.length, 2);
  t.ok(
    [...parts.unet.namedLinears()].every(([, layer]) => layer.adapter === null),
    'no adapter stays on the model',
  );
  // The second round's candidates are those of the tuned model.
  const scores = (round: number): string =>
    fs.readFileSync(at('rounds', `round-${round}`, 'sweep', 'scores.jsonl'), 'utf8');
  t.not(scores(1), scores(2));
  const stop = new AbortController();
  await t.rejects(
    runRounds(rounds('again'), {
      signal: stop.signal,
      onProgress: ({ task, done }) =>
        task === 'mi sweep' && fs.existsSync(at('again', 'round-2')) && done === 3 && stop.abort(),
    }),
    { code: 'cancelled' },
  );
  t.ok(
    [...parts.unet.namedLinears()].every(([, layer]) => layer.adapter === null),
    'nor after a failure',
  );
  await runRounds(rounds('again'));
  t.same(
    adapterBytes('again/round-2/tune'),
    adapterBytes('rounds/round-2/tune'),
    'resumed to the same adapter',
  );
  const further = await runRounds(
    rounds('further', { start: 'previous', firstSweep: { folder: at('sweep'), candidates: 3 } }),
  );
  t.same(
    adapterBytes('further/round-1/tune'),
    adapterBytes('rounds/round-1/tune'),
    'a shared sweep is the same sweep',
  );
  t.notSame(adapterBytes('further/round-2/tune'), adapterBytes('rounds/round-2/tune'));
  t.equal(further.length, 2);
  await t.rejects(runRounds(rounds('rounds', { top: 2 })), {
    code: 'conflict',
    message: /option top: 1 in the folder/,
  });
  await t.rejects(runRounds(rounds('k', { top: 4 })), {
    message: /top: expected a whole number from 1 to the 3/,
  });
  await t.rejects(runRounds(rounds('k', { rounds: 0 })), {
    message: /rounds: expected a positive whole number/,
  });
  await t.rejects(runRounds(rounds('k', { keep: 'best' })), { message: /keep: expected last/ });
});

t.test('real pictures by MI', async (t) => {
  const side = (parts.latentShape[0] as number) * pipeline.parts.vae.downscale;
  fs.mkdirSync(at('real'));
  const lines: string[] = [];
  for (let i = 0; i < 4; i++) {
    const data = Uint8Array.from({ length: side * side * 3 }, (_, k) => (k * (i + 3)) % 256);
    fs.writeFileSync(at('real', `${i}.png`), await encodePng({ width: side, height: side, data }));
    lines.push(JSON.stringify({ file_name: `${i}.png`, text: `pattern ${i}` }));
  }
  fs.writeFileSync(at('real', 'metadata.jsonl'), `\uFEFF${lines.join('\r\n')}\r\n`);
  const images = await readImageFolder(at('real'));
  t.equal(images.length, 4);
  const estimate = { seed: 1, replicates: 2, strata: 2 };
  const real = await scoreRealImages(at('real-scores'), parts, encode, images, estimate);
  t.same(await scoreRealImages(at('real-scores'), parts, encode, images, estimate), real);
  const chosen = topCandidates(rows, 2);
  const mixed = mixRealImages(chosen, real, 0.5, 9);
  t.equal(mixed.chosen.length, 2);
  t.same(
    mixed.real.map(({ mi }) => mi),
    [...real.map(({ mi }) => mi)].sort((a, b) => b - a).slice(0, 2),
  );
  t.throws(
    () => mixRealImages([...chosen, ...chosen], real, 0.9, 9),
    /real images: expected at least 7.*got 4/,
  );
  t.throws(() => mixRealImages(chosen, real, 1.5, 9), /real fraction: expected a number from 0 to 1/);
  await buildSet(at('mixed'), parts, mixed, sampling, { batch: 2, decode, encode });
  const { examples } = await readSet(at('mixed'));
  t.same(
    examples.map(({ candidate }) => candidate === null),
    [false, false, true, true],
  );
  const small = at('real', 'small.png');
  fs.writeFileSync(small, await encodePng({ width: 2, height: 2, data: new Uint8Array(12) }));
  await t.rejects(
    scoreRealImages(at('small'), parts, encode, [{ file: small, prompt: 'x', hash: 'x' }], estimate),
    /small\.png: expected \d+ x \d+ pixels, the size the model draws, got 2 x 2/,
  );
  const metadata = (text: string): void => fs.writeFileSync(at('real', 'metadata.jsonl'), text);
  metadata('{"file_name":"../x.png","text":"x"}\n');
  await t.rejects(readImageFolder(at('real')), { code: 'unsafe' });
  metadata('{"file_name":"9.png","text":"x"}\n');
  await t.rejects(readImageFolder(at('real')), {
    code: 'missing',
    message: /line 1: expected the picture 9\.png/,
  });
  metadata('{"file_name":"1.png"}\n');
  await t.rejects(readImageFolder(at('real')), {
    code: 'corrupt',
    message: /line 1: expected file_name and text/,
  });
  metadata('');
  await t.rejects(readImageFolder(at('real')), /at least one picture/);
});

t.test('evaluation per category, with intervals over prompts', async (t) => {
  const evaluation = {
    folder: at('evaluation'),
    parts,
    adapter: '',
    prompts: [
      { prompt: 'a red circle', category: 'color' },
      { prompt: 'a blue square', category: 'color' },
      { prompt: 'a cat on a mat', category: 'spatial' },
    ],
    images: 2,
    sampling,
    batch: 4,
    pictures: { scorers: [redness], decode, keep: true },
  };
  const found = await evaluate(evaluation);
  t.equal(found.length, 6);
  const pictures = await Promise.all(
    found.map(({ promptIndex, prompt, candidate }) =>
      decodeImage(at('evaluation', 'pictures', pictureName(promptIndex, prompt, candidate))),
    ),
  );
  t.same(
    await redness.score(pictures, []),
    found.map(({ scores }) => scores.redness),
  );
  const table = categoryScores(found, evaluation.prompts, ['mi', 'redness']);
  t.same(
    table.map(({ category, score }) => `${category} ${score}`),
    ['color mi', 'spatial mi', 'mean mi', 'color redness', 'spatial redness', 'mean redness'],
  );
  const stored = await readEvaluation(at('evaluation'));
  t.same([stored.rows, stored.prompts, stored.scores], [found, evaluation.prompts, ['mi', 'redness']]);
  await t.rejects(readEvaluation(at('sweep')), { code: 'missing', message: /expected an evaluation/ });
  const report = await runReport(at('rounds'), [
    { name: 'base', folder: at('evaluation') },
    { name: 'same again', folder: at('evaluation') },
  ]);
  t.same(
    report.sections.map(({ title }) => title),
    ['Alignment', 'Round 1', 'Round 2'],
  );
  const html = renderReport(report);
  for (const text of ['Choice of candidates', 'Loss', 'a cat on a mat', 'same again'])
    t.ok(html.includes(text), text);
  await t.rejects(runReport(at('nowhere'), []), {
    code: 'missing',
    message: /nowhere: expected the folder of/,
  });
  const mean = (some: readonly SweepRow[]): number => some.reduce((sum, { mi }) => sum + mi, 0) / some.length;
  const expected = (mean(found.slice(0, 4)) + mean(found.slice(4))) / 2;
  t.ok(Math.abs((table[2]?.estimate.value as number) / expected - 1) < 1e-12, 'categories weigh the same');
  const zero = categoryDifferences(found, found, evaluation.prompts, 'mi');
  t.ok(zero.every(({ estimate: { value, low, high } }) => value === 0 && low === 0 && high === 0));
  // Pictures of one prompt that are all alike are one observation, not many.
  const alike = bootstrapGroups([Array.from({ length: 10 }, (_, i) => Array(50).fill(i % 2))], 1);
  t.equal(alike.value, 0.5);
  t.ok(alike.high - alike.low > 0.4, `interval ${alike.low} to ${alike.high}`);
});
