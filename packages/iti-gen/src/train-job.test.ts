/** Runs as users have them: run folders, interruptions, bad input. */
import { copyFile, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { useEngine } from '@equipoise/backend';
import { readJournal, readRunRecord } from '@equipoise/core';
import { CLIPTextModel } from '@equipoise/models';
import { readTrainingState } from '@equipoise/weights';
import * as tf from '@tensorflow/tfjs-core';
import t, { type Test } from 'tap';
import {
  chooseReferences,
  composeTokens,
  findAttributes,
  type InclusiveTokens,
  JOINS,
  type Join,
  joinTokens,
  loadTokens,
  requireSameTextTower,
  type StepLog,
  saveTokens,
  slotCount,
  TRAIN_DEFAULTS,
  type TrainJob,
  type TrainJobOptions,
  trainJob,
} from './index.js';
import { loadFixture, loadFixtureClip, writeFixtureReferences } from './testing/clip-fixture.js';

await useEngine('equipoise-cpu');
const clip = await loadFixture();

const SIZES = { Tone: { light: 6, dark: 6 }, Hat: { none: 6, cap: 6, bow: 6 } };

async function references(
  t: Test,
  sizes: Parameters<typeof writeFixtureReferences>[1] = SIZES,
): Promise<string> {
  const folder = t.testdir();
  await writeFixtureReferences(join(folder, 'data'), sizes);
  return folder;
}

const OPTIONS: TrainJobOptions = {
  ...TRAIN_DEFAULTS,
  prompt: 'a b c',
  epochs: 4,
  updatesPerEpoch: 2,
  references: 4,
  saveEvery: 2,
};

async function job(
  folder: string,
  changes: Partial<TrainJobOptions> = {},
  extra: Partial<TrainJob> = {},
): Promise<TrainJob> {
  return {
    folder: join(folder, 'run'),
    clip,
    attributes: await findAttributes(join(folder, 'data'), []),
    options: { ...OPTIONS, ...changes },
    featureCache: join(folder, 'features'),
    ...extra,
  };
}

t.test('a run folder holds everything, and repeats to the same bits', async (t) => {
  const folder = await references(t);
  const { tokens, log, file } = await trainJob(await job(folder));
  t.same(
    tokens.attributes.map(({ name, categories }) => [name, categories]),
    [
      ['Hat', ['bow', 'cap', 'none']],
      ['Tone', ['dark', 'light']],
    ],
  );
  t.equal(log.length, 4 * 2 * 2, 'every update of every attribute is in the log');
  t.ok((log.at(-2)?.direction as number) < (log[2]?.direction as number), 'the direction loss falls');
  t.equal(log.at(-2)?.pairCosine.length, 3);
  for (const name of [
    'run.json',
    'log.jsonl',
    'checkpoint.safetensors',
    'tokens-epoch-2.safetensors',
    'tensorboard',
  ])
    t.ok((await readdir(join(folder, 'run'))).includes(name), name);
  t.match(await readRunRecord(join(folder, 'run')), { status: 'finished', command: 'iti-gen train' });
  t.same(await loadTokens(file), tokens);
  const before = await readFile(file);
  const again = await trainJob(await job(folder, {}, { folder: join(folder, 'again') }));
  t.ok(before.equals(await readFile(again.file)), 'another folder, the same bits');
  const other = await trainJob(await job(folder, { seed: 1 }, { folder: join(folder, 'other') }));
  t.notOk(before.equals(await readFile(other.file)), 'another seed, other tokens');
});

t.test('a run stopped between epochs goes on to the same bits; nothing is done twice', async (t) => {
  const folder = await references(t);
  const whole = await trainJob(await job(folder, {}, { folder: join(folder, 'whole') }));
  const stop = new AbortController();
  const stopped = trainJob(await job(folder), {
    signal: stop.signal,
    // In the middle of the third epoch.
    onProgress: ({ task, done }) => {
      if (task === 'iti-gen epoch 3/4' && done === 1) stop.abort();
    },
  });
  await t.rejects(stopped, { code: 'cancelled' });
  t.match(await readRunRecord(join(folder, 'run')), { status: 'cancelled' });
  const kept = (await readTrainingState(join(folder, 'run', 'checkpoint.safetensors')))?.position;
  t.equal(kept, 2, 'two epochs are safe');
  const epochs: string[] = [];
  const resumed = await trainJob(await job(folder), {
    onProgress: ({ task, done }) => void (done === 0 && epochs.push(task)),
  });
  t.notOk(epochs.includes('iti-gen epoch 2/4'));
  t.ok((await readFile(whole.file)).equals(await readFile(resumed.file)));
  t.same(
    resumed.log.map(({ loss }) => loss),
    whole.log.map(({ loss }) => loss),
  );
  const record = join(folder, 'run', 'run.json');
  const written = await readFile(record, 'utf8');
  t.match(written, '"updatesPerEpoch": 2');
  await writeFile(record, written.replace('"updatesPerEpoch"', '"stepsPerEpoch"'));
  const more = await trainJob(await job(folder, { epochs: 6 }));
  t.equal(more.log.length, 6 * 2 * 2, 'more epochs may follow');
  await t.rejects(trainJob(await job(folder, { epochs: 4 })), {
    code: 'conflict',
    message: /epochs: expected at least the 6 that .* has done, got 4/,
  });
  await t.rejects(trainJob(await job(folder, { seed: 3 })), { code: 'conflict', message: /option seed/ });
});

t.test('a loss that is not a number stops the run and loses nothing', async (t) => {
  const folder = await references(t);
  // Sound for two epochs, then a step so large that the tokens overflow.
  const changes = { learningRate: 1e-2, decayAfter: 2, decay: 1e45 };
  await t.rejects(trainJob(await job(folder, changes)), {
    code: 'numeric',
    message: /the loss of attribute \w+ is (NaN|-?Infinity) at epoch [34], step \d/,
  });
  t.match(await readRunRecord(join(folder, 'run')), {
    status: 'failed',
    sessions: [{ error: /the loss of attribute/ }],
  });
  const state = await readTrainingState(join(folder, 'run', 'checkpoint.safetensors'));
  t.equal(state?.position, 2);
  t.ok(state?.tensors.every(({ value }) => value.every(Number.isFinite)));
  t.ok(await loadTokens(join(folder, 'run', 'tokens-epoch-2.safetensors')));
  const log = await readJournal<StepLog[]>(join(folder, 'run', 'log.jsonl'));
  t.ok([...log.values()].flat().every(({ loss }) => Number.isFinite(loss)));
});

t.test('images that cannot be used are named', async (t) => {
  const folder = await references(t);
  const category = join(folder, 'data', 'Tone', 'dark');
  const file = join(category, '000.png');
  const good = await readFile(file);
  const refused = async (
    what: string,
    expected: { code?: string; message: RegExp; hints?: RegExp[] },
    changes: Partial<TrainJobOptions> = {},
  ): Promise<void> => {
    await t.rejects(trainJob(await job(folder, { references: 6, ...changes })), expected, what);
    await rm(join(folder, 'run'), { recursive: true, force: true });
  };
  await writeFile(file, 'not a picture');
  await refused('unreadable', { code: 'corrupt', message: /Tone.dark.000\.png: expected an image/ });
  await writeFile(file, good.subarray(0, good.length / 2));
  await refused('cut short', { code: 'corrupt', message: /Tone.dark.000\.png/ });
  await writeFile(file, '');
  await refused('empty', { code: 'corrupt', message: /Tone.dark.000\.png/ });
  await writeFile(file, good);
  await copyFile(file, join(folder, 'data', 'Tone', 'light', '900.png'));
  await refused(
    'duplicate',
    {
      message: /attribute Tone: expected every image once, got .*900\.png, the same image as .*000\.png/,
      hints: [/duplicate/],
    },
    { references: 10 },
  );
  await rm(join(folder, 'data', 'Tone', 'light', '900.png'));

  for (const name of await readdir(category)) await rm(join(category, name));
  await refused('none', {
    code: 'missing',
    message: /attribute Tone: expected images in category "dark", got none/,
  });
  await rm(category, { recursive: true });
  await refused('one category', {
    message: /attribute Tone: expected at least two categories, got only "light"/,
  });
  await rm(join(folder, 'data', 'Tone', 'light'), { recursive: true });
  await refused('no category', { message: /attribute Tone: expected at least two categories, got none/ });
  await rm(join(folder, 'data'), { recursive: true });
  await t.rejects(findAttributes(join(folder, 'data'), []), {
    code: 'missing',
    message: /data: .* is not a readable folder/,
  });
  await mkdir(join(folder, 'data'));
  await refused('no attribute', { message: /attributes: expected at least one attribute, got none/ });
});

t.test('categories of very different size are said so, and work', async (t) => {
  const folder = await references(t, { Tone: { light: 9, dark: 2 } });
  const warnings: string[] = [];
  const result = await trainJob(
    await job(folder, { references: 25 }, { onWarning: (message) => void warnings.push(message) }),
  );
  t.same(warnings, [
    'attribute Tone: categories of very different size (dark 2, light 9); batches may miss the small ones',
  ]);
  t.ok(
    result.log.every(({ loss }) => Number.isFinite(loss)),
    'a batch without a category has a loss too',
  );
});

t.test('prompts and names that do not fit', async (t) => {
  const folder = await references(t);
  await t.rejects(trainJob(await job(folder, { prompt: 'a b c d e f g h' })), {
    message:
      /prompt: expected at most 7 tokens beside 3 inclusive tokens \(the text tower has 12 positions\), got 8 tokens/,
  });
  await t.rejects(findAttributes(join(folder, 'data'), ['Hat', 'Tone', 'Hat']), {
    message: /attributes: expected each attribute once, got "Hat" twice/,
  });
  await t.rejects(findAttributes(join(folder, 'data'), ['Hut']), {
    message: /expected one of Hat, Tone, got "Hut"/,
  });
  const found = await findAttributes(join(folder, 'data'), []);
  await t.rejects(chooseReferences([...found, ...found], 4, 0), { message: /each attribute once/ });
});

t.test('tokens of another model or layout do not mix', async (t) => {
  const tokens: InclusiveTokens = {
    prompt: 'a',
    compat: 'paper',
    join: 'sum',
    length: 1,
    width: 2,
    clip: 'x',
    attributes: [{ name: 'Hat', categories: ['no', 'yes'], values: Float32Array.of(1, 2, 3, 4) }],
  };
  const tone = { ...tokens, attributes: [{ ...tokens.attributes[0]!, name: 'Tone' }] };
  t.same(
    composeTokens([tokens, tone]).attributes.map(({ name }) => name),
    ['Hat', 'Tone'],
  );
  t.equal(composeTokens([tokens, tone]).join, 'sum', 'as the first file says');
  t.equal(composeTokens([tokens, tone], 'concat').join, 'concat');
  t.throws(() => composeTokens([]), { message: /at least one file/ });
  t.throws(() => composeTokens([tokens, tokens]), { message: /each attribute once, got "Hat" twice/ });
  for (const key of ['clip', 'compat', 'length', 'width'] as const)
    t.throws(() => composeTokens([tokens, { ...tone, [key]: 'other' }]), {
      code: 'conflict',
      message: new RegExp(`tokens: ${key}`),
    });
  const folder = t.testdir({ 'text.safetensors': 'x' });
  await t.rejects(loadTokens(join(folder, 'text.safetensors')), { code: 'corrupt' });
  const file = join(folder, 'tokens.safetensors');
  await saveTokens(file, tokens);
  t.same(await loadTokens(file), tokens);
  await saveTokens(file, { ...tokens, join: 'other' as Join });
  await t.rejects(loadTokens(file), { code: 'corrupt' });
});

t.test('a text encoder that is not the CLIP tower is refused', async (t) => {
  const own = await loadFixtureClip();
  const { config } = own;
  const text = (changes: object = {}): CLIPTextModel =>
    CLIPTextModel.random({ ...config.text, ...changes } as never, 5);
  const other = text();
  await t.rejects(requireSameTextTower(own, other), {
    code: 'conflict',
    message:
      /CLIP and the pipeline's text encoder: text_model\.\S+: expected the pipeline's text encoder to hold the same numbers, got a difference of/,
    hints: [/Learn the tokens with the CLIP model whose text tower the pipeline uses/],
  });
  const wider = text({ hidden_size: 64 });
  await t.rejects(requireSameTextTower(own, wider), { message: /expected \[64,32\], got \[64,64\]/ });
  const deeper = text({ num_hidden_layers: 4 });
  await t.rejects(requireSameTextTower(own, deeper), { message: /layers\.3\.\S+: expected no such weight/ });
  for (const model of [own, other, wider, deeper]) model.dispose();
});

t.test('joined tokens: sums in the same slots, or a slot for each attribute', async (t) => {
  const hat = tf.tensor3d([1, 2, 3, 4], [2, 1, 2]);
  const tone = tf.tensor3d([10, 20, 30, 40], [2, 1, 2]);
  const [sum, concat] = JOINS.map((own) => joinTokens([hat, tone], own)) as [tf.Tensor3D, tf.Tensor3D];
  t.same(await sum.array(), [[[11, 22]], [[31, 42]], [[13, 24]], [[33, 44]]]);
  t.same(await concat.array(), [
    [
      [1, 2],
      [10, 20],
    ],
    [
      [1, 2],
      [30, 40],
    ],
    [
      [3, 4],
      [10, 20],
    ],
    [
      [3, 4],
      [30, 40],
    ],
  ]);
  t.same(
    JOINS.map((own) => slotCount(3, 2, own)),
    [2, 6],
  );
  tf.dispose([hat, tone, sum, concat]);
});
