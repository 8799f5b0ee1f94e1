/** The commands from reference images to a report, on the embedded model, in small. */
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { PhiloxSequence } from '@equipoise/core';
import { SHIPPED_WEIGHTS, writeReferences } from '@equipoise/tiny-world';
import { float32Source, openSafetensors, writeSafetensors } from '@equipoise/weights';
import t from 'tap';
import { runCli } from '../../cli.js';
import { killAndResume } from '../../testing/kill-resume.js';

const clip = ['--clip', join(SHIPPED_WEIGHTS, 'clip')];
const prompt = 'a headshot of a person';
const tiny = ['--steps', '2', '--batch', '8'];

async function run(...words: string[]): Promise<{ status: number; out: string; err: string }> {
  const out: string[] = [];
  const err: string[] = [];
  const status = await runCli(['iti-gen', ...words], {
    print: (line) => void out.push(line),
    note: (line) => void err.push(line),
    signal: new AbortController().signal,
  });
  return { status, out: out.join('\n'), err: err.join('\n') };
}

/** The JSON that a command prints. */
async function json(...words: string[]): Promise<Record<string, unknown>> {
  const { status, out, err } = await run(...words);
  if (status !== 0) throw new Error(`${words.join(' ')}: ${err}`);
  return JSON.parse(out) as Record<string, unknown>;
}

t.test('train, compose, prepend, generate, evaluate, report', async (t) => {
  const folder = t.testdir();
  const at = (...names: string[]): string => join(folder, ...names);
  await writeReferences(at('data'), ['eyeglasses', 'hat'], { seed: 1, perCategory: 6 });
  const train = (name: string, ...more: string[]) =>
    json(
      'train',
      ...clip,
      '--data',
      at('data'),
      '--prompt',
      prompt,
      '--epochs',
      '2',
      '--updates',
      '2',
      '--attributes',
      name,
      '--out',
      at(`train-${name}`),
      ...more,
    );
  t.match(await train('eyeglasses'), { combinations: 2, updates: 4 });
  await train('hat');
  t.match(
    await run('train', ...clip, '--data', at('data'), '--prompt', prompt, '--out', at('x'), '--steps', '2'),
    {
      status: 2,
      err: /^equipoise: --steps: expected a known option, got an unknown one\n {2}hint: Did you mean --updates\?$/,
    },
  );
  const files = ['eyeglasses', 'hat'].map((name) => at(`train-${name}`, 'tokens.safetensors'));

  const both = at('both.safetensors');
  t.match(await json('compose', ...files, '--out', both), {
    attributes: { eyeglasses: ['negative', 'positive'], hat: ['negative', 'positive'] },
    combinations: 4,
  });
  t.match(await run('compose', files[0] as string, '--out', both), {
    status: 2,
    err: /--tokens: expected a list of at least 2/,
  });
  t.match(await run('compose', files[0] as string, files[0] as string, '--out', both), {
    status: 5,
    err: /tokens: expected each attribute once, got "eyeglasses" twice/,
  });

  const embeds = at('portrait.safetensors');
  const prepended = await json(
    'prepend',
    both,
    ...clip,
    '--prompt',
    'a portrait of a person',
    '--out',
    embeds,
  );
  t.equal((prepended.combinations as unknown[]).length, 4);
  await using opened = await openSafetensors(embeds);
  t.equal(opened.get('prompt_embeds').shape[0], 4);

  const generate = (out: string, ...more: string[]) =>
    run(
      'generate',
      '--model',
      SHIPPED_WEIGHTS,
      ...clip,
      '--tokens',
      both,
      ...tiny,
      '--out',
      at(out),
      ...more,
    );
  t.equal((await generate('images', '--count', '8')).status, 0);
  const folders = (await readdir(at('images'))).filter((name) => name !== 'run.json').sort();
  t.same(folders, [
    'eyeglasses_negative_hat_negative',
    'eyeglasses_negative_hat_positive',
    'eyeglasses_positive_hat_negative',
    'eyeglasses_positive_hat_positive',
  ]);
  for (const name of folders) t.equal((await readdir(at('images', name))).length, 2, 'equal shares');
  await generate('skewed', '--count', '8', '--shares', 'hat=positive=0.75');
  t.same(
    await Promise.all(folders.map(async (name) => (await readdir(at('skewed', name))).length)),
    [1, 3, 1, 3],
    'shares as asked for',
  );
  await generate('only', '--count', '3', '--only', 'hat=positive,eyeglasses=negative');
  const picked = 'eyeglasses_negative_hat_positive';
  t.same((await readdir(at('only'))).sort(), [picked, 'run.json']);
  const positive = ['--only', 'hat=positive,eyeglasses=negative'];
  t.match(await generate('only', '--count', '4', ...positive, '--guidance', '2'), {
    status: 5,
    err: /only: holds a different run\n {2}option guidance: 6 in the folder, 2 now/,
  });
  t.equal((await generate('only', '--count', '4', ...positive)).status, 0);
  t.equal((await readdir(at('only', picked))).length, 4, 'more images from the same noises');
  t.match(await generate('only', '--count', '2', ...positive), {
    status: 0,
    err: /only: 2 images of other numbers or shares are there beside these 2$/,
  });
  for (const [words, message] of [
    [['--shares', 'hat=positive=0.75,hat=negative=0.5'], /shares of hat that sum to/],
    [['--shares', 'hat=blue=0.75'], /hat= with one of negative, positive/],
    [['--shares', 'hot=positive=0.75'], /one of eyeglasses, hat/],
    [['--shares', 'hat=positive=2'], /a share from 0 to 1/],
    [['--only', 'hat=positive,hat=negative'], /one category of hat/],
  ] as const)
    t.match(await generate('refused', ...words), { status: 2, err: message }, words.join(' '));

  t.match(await generate('refused', '--tokenizer', at('data')), { status: 3, err: /data.*vocab\.json/ });

  const evaluate = (images: string, out: string, ...more: string[]) =>
    run('evaluate', '--images', at(images), '--out', at(out), ...more);
  const judge = ['--judge', 'tiny-world', '--attributes', 'eyeglasses,hat'];
  const judged = await evaluate(
    'images',
    'after',
    ...judge,
    ...clip,
    '--tokenizer',
    join(SHIPPED_WEIGHTS, 'tokenizer'),
    '--prompt',
    prompt,
  );
  t.equal(judged.status, 0, judged.err);
  t.match(JSON.parse(judged.out), {
    images: 8,
    kl: { eyeglasses: Number, 'eyeglasses x hat': Number },
    similarity: Number,
    distances: { 'the world': { frechet: Number, kernel: Number, standardError: Number } },
    vendi: Number,
  });
  const record = JSON.parse(await readFile(at('after', 'evaluation.json'), 'utf8'));
  t.equal(record.evaluation.accuracy.length, 2, 'images carry what they were asked to show');
  t.same(
    record.evaluation.distances.map((d: { reference: string }) => d.reference),
    ['the world', 'the even world'],
  );
  t.equal(record.evaluation.diversity.features, 'judge');
  const [glasses] = record.evaluation.balance;
  for (const [k, count] of glasses.counts.entries()) {
    if (count === 0) t.equal(glasses.vendi[k], null, 'no picture, no diversity');
    else t.ok(glasses.vendi[k] >= 1 && glasses.vendi[k] <= count, `${glasses.vendi[k]} of ${count}`);
  }

  await writeFile(at('classes.yaml'), 'hat:\n  negative: a person\n  positive: a person wearing a hat\n');
  t.equal(
    (
      await evaluate(
        'skewed',
        'before',
        '--classes',
        at('classes.yaml'),
        ...clip,
        '--shares',
        'hat=positive=0.75',
        '--name',
        'skewed',
      )
    ).status,
    0,
  );
  const skewed = JSON.parse(await readFile(at('before', 'evaluation.json'), 'utf8'));
  t.same(skewed.evaluation.balance[0].target.shares, [0.25, 0.75]);

  const report = (await json('report', at('train-hat'), at('before'), at('after'), '--out', at('report')))
    .report as string;
  const html = await readFile(report, 'utf8');
  for (const text of [
    'Learning: train-hat',
    'hat: shares of categories',
    'Distances to real pictures',
    'kernel distance',
    'Vendi score',
    'hat: positive',
    'data:image/png;base64,',
  ])
    t.ok(html.includes(text), text);
  t.notOk(/(src|href)="(?!data:)/.test(html), 'nothing is fetched');
  t.ok((await readdir(at('report', 'tables'))).length >= 4);

  for (const [words, message] of [
    [[], /exactly one of --classes, --labels, --judge, got none/],
    [[...judge, '--classes', 'x'], /got --classes and --judge/],
    [['--classes', at('classes.yaml')], /--clip: expected a folder beside --classes, got none/],
    [['--judge', 'tiny-world'], /--attributes: expected the attributes that the embedded judge is asked/],
    [['--judge', 'tiny-world', '--attributes', 'hut'], /attribute: expected one of skinTone, /],
    [[...judge, '--inception', 'x'], /--inception: expected it and --real-images together/],
  ] as const)
    t.match(await evaluate('images', 'refused', ...words), { status: 2, err: message }, words.join(' '));
  t.match(await evaluate('train-hat/tensorboard', 'refused', ...judge), {
    status: 3,
    err: /expected at least one image, got none/,
  });
  t.match(await run('report', at('data'), '--out', at('refused')), { status: 3, err: /a run folder/ });
  t.match(await run('report', at('images'), '--out', at('refused')), {
    status: 2,
    err: /images: expected a run of iti-gen train or iti-gen evaluate, got iti-gen generate/,
  });
  t.match(await run('report', at('after'), at('after'), '--out', at('refused')), {
    status: 2,
    err: /evaluations with different names/,
  });

  const other = at('other.safetensors');
  await writeSafetensors(other, [float32Source('x', [1], Float32Array.of(1))], { metadata: null });
  t.match(await run('prepend', other, ...clip, '--out', at('x')), {
    status: 4,
    err: /expected inclusive tokens/,
  });
});

t.test('the table and the study run, resume and report', async (t) => {
  const out = t.testdir();
  const small = [...tiny, '--images', '4', '--seeds', '0', '--epochs', '2'];
  const table = [
    'table',
    ...small,
    '--out',
    out,
    '--sets',
    'eyeglasses+hat',
    '--other-prompts',
    'a portrait of a person',
  ];
  const { report } = await json(...table);
  const tables = async (): Promise<string[]> => {
    const names = await readdir(join(out, 'tables'));
    return Promise.all(names.map((name) => readFile(join(out, 'tables', name), 'utf8')));
  };
  const first = await tables();
  t.match(first[0], /eyeglasses x hat,4,ITI-GEN,/);
  t.match(first[0], /eyeglasses x hat,4,"""with \/ without"" prompts",/);
  t.match(first[1], /a portrait of a person/);
  const cells = (await readdir(join(out, 'cells'))).length;
  t.equal(cells, 4 + 2, 'every method, and both sides of the other prompt');
  const cellFile = join(out, 'cells', (await readdir(join(out, 'cells')))[0] as string, 'run.json');
  const untouched = await readFile(cellFile, 'utf8');
  // An option may come and go; this one says what is the default anyway.
  await json(...table, '--guidance', '4');
  await json(...table);
  t.same(await tables(), first, 'read back, with the same numbers');
  t.equal(await readFile(cellFile, 'utf8'), untouched, 'a cell that is done is not run again');
  t.match(await readFile(report as string, 'utf8'), /Train once for all/);

  const study = await json(
    'study',
    ...small,
    '--sets',
    'eyeglasses+hat',
    '--references',
    '5',
    '--updates',
    '2',
    '--counts',
    '5,10',
    '--lambdas',
    '0.5,0.9',
    '--out',
    join(out, 'study'),
  );
  const html = await readFile(study.report as string, 'utf8');
  for (const title of [
    'Direction alignment',
    'Number of references',
    'Interference between attributes',
    'One attribute: eyeglasses',
    'Semantic drift against lambda',
  ])
    t.ok(html.includes(title), title);
  for (const [words, message] of [
    [['--sets', 'eyeglasses+eyeglasses'], /--sets: expected each attribute once in a set/],
    [['--sets', 'eyeglasses+'], /attributes joined by \+/],
    [['--sets', 'hat,hat'], /each set once/],
    [['--clip', 'x'], /--clip: expected --model beside it/],
    [['--model', 'x'], /--clip: expected a value beside --model/],
  ] as const)
    t.match(
      await run('table', '--out', join(out, 'refused'), ...words),
      { status: 2, err: message },
      words.join(' '),
    );
});

t.test('SIGKILL twice, SIGTERM once, resume, the same bits', async (t) => {
  const random = new PhiloxSequence(5);
  const { whole, killed, struck, stopped } = await killAndResume({
    folder: t.testdir(),
    kills: 2,
    epochs: 12,
    random: () => random.uniform(),
  });
  t.equal(struck.length, 2);
  t.ok(
    (struck[0] as number) >= 1 && (struck[1] as number) < 12,
    `killed with ${struck} of 12 epochs recorded`,
  );
  t.match(stopped, {
    status: 128 + 15,
    errors: /equipoise: stopped by SIGTERM\n {2}hint: Start the same command again: it goes on/,
  });
  t.equal(Object.keys(whole).length, 5, 'the tokens, and those of every third epoch');
  t.same(killed, whole);
});
