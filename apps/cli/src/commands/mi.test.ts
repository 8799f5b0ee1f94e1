/** The commands of MI-TUNE from end to end, on a model of a few thousand weights. */
import { readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { readSweep, sweepRows } from '@equipoise/mi-tune';
import { fixturesOf } from '@equipoise/testing';
import { SHIPPED_WEIGHTS } from '@equipoise/tiny-world';
import t, { type Test } from 'tap';
import { runCli } from '../cli.js';

const model = fixturesOf(import.meta.url, '../../../../packages/diffusion/fixtures').path('sd');
const folder = t.testdir({
  'prompts.txt': '\uFEFFa red circle\tcolor\r\na blue square\r\n\r\na red circle\n',
  'held.txt': 'a cat\n',
  'words.mjs':
    "import fs from 'node:fs';\nfor (const line of fs.readFileSync(process.argv.at(-1), 'utf8').trim().split('\\n')) console.log(JSON.parse(line).prompt.length);\n",
  'empty.txt': '\n\t\n',
});
const at = (...names: string[]): string => join(folder, ...names);
const small = ['--model', model, '--steps', '3', '--batch', '2', '--seed', '5'];
const lengths = `length=${process.execPath} ${at('words.mjs')}`;

async function run(...words: string[]): Promise<{ status: number; out: string; err: string }> {
  const [out, err]: [string[], string[]] = [[], []];
  const io = { print: (line: string) => void out.push(line), note: (line: string) => void err.push(line) };
  const status = await runCli(words, { ...io, signal: new AbortController().signal });
  return { status, out: out.join('\n'), err: err.join('\n') };
}

async function ok(t: Test, ...words: string[]): Promise<string> {
  const { status, out, err } = await run(...words);
  t.equal(status, 0, `${words.slice(0, 2).join(' ')}: ${err}`);
  return out;
}

async function refused(t: Test, status: number, expected: RegExp, ...words: string[]): Promise<void> {
  const result = await run(...words);
  t.equal(result.status, status, result.err);
  t.match(result.err, expected);
}

t.test('sweep, shards, merge, query, export, agreement', async (t) => {
  const sweep = [
    'mi',
    'sweep',
    ...small,
    '--prompts',
    at('prompts.txt'),
    '--candidates',
    '3',
    '--scorer',
    lengths,
  ];
  const { status, out, err } = await run(...sweep, '--out', at('whole'));
  t.equal(status, 0, err);
  t.match(err, /1 repeated prompt is scored once/);
  t.match(JSON.parse(out), { prompts: 2, candidates: 6 });
  await ok(t, ...sweep, '--no-savings', '--out', at('plain'));
  t.same(sweepRows(await readSweep(at('plain'))), sweepRows(await readSweep(at('whole'))));
  for (const part of ['1', '2']) await ok(t, ...sweep, '--shard', `${part}/2`, '--out', at(`part-${part}`));
  await ok(t, 'mi', 'merge', at('part-2'), at('part-1'), '--out', at('merged'));
  t.same(sweepRows(await readSweep(at('merged'))), sweepRows(await readSweep(at('whole'))));
  const sql =
    'SELECT prompt, count(*) AS n, any_value(length) AS length FROM scores GROUP BY prompt ORDER BY prompt';
  t.same(JSON.parse(await ok(t, 'mi', 'query', sql, at('merged'), '--format', 'json')), [
    { prompt: 'a blue square', n: 3, length: 13 },
    { prompt: 'a red circle', n: 3, length: 12 },
  ]);
  t.match(await ok(t, 'mi', 'query', sql, at('merged')), /\| a blue square \| 3 \| 13 \|/);
  await ok(t, 'mi', 'export', at('whole'), at('scores.csv'));
  t.match(await readFile(at('scores.csv'), 'utf8'), /^prompt,.*,mi,length,/);
  t.match(await ok(t, 'mi', 'agreement', at('whole'), '--ranks', '1,2,3'), /\| mi, length \| – \|.* 2 \|/);
  await refused(
    t,
    5,
    /option guidance: 7.5 in the folder, 2 now/,
    ...sweep,
    '--guidance',
    '2',
    '--out',
    at('whole'),
  );
  await refused(
    t,
    2,
    /--shard: expected i\/n with i from 1 to n, got "3\/2"/,
    ...sweep,
    '--shard',
    '3/2',
    '--out',
    at('x'),
  );
  await refused(
    t,
    2,
    /empty\.txt: expected at least one prompt/,
    ...sweep.with(sweep.indexOf(at('prompts.txt')), at('empty.txt')),
    '--out',
    at('x'),
  );
  await refused(t, 2, /--scorer: expected NAME=COMMAND/, ...sweep, '--scorer', 'x', '--out', at('x'));
});

t.test('choice by the mutual information of finished pictures', async (t) => {
  const words = [...small, '--prompts', at('prompts.txt'), '--candidates', '3'];
  const scored = ['mi', 'sweep', ...words, '--picture-mi', '--picture-draws', '3'];
  await ok(t, ...scored, '--out', at('pictured'));
  const rows = sweepRows(await readSweep(at('pictured')));
  t.ok(rows.every(({ scores }) => Number.isFinite(scores.picture_mi)));
  t.match(await ok(t, 'mi', 'agreement', at('pictured'), '--ranks', '1,2,3'), /\| mi, picture_mi \|/);
  await refused(t, 5, /input scorer picture_mi/, ...scored.with(-1, '4'), '--out', at('pictured'));
  // The build finds the same candidates on its own, and the set holds those with the highest score.
  const choose = ['mi-tune', 'build', '--select', 'picture', '--picture-draws', '3'];
  await ok(t, ...choose, ...words, '--out', at('chosen'));
  await ok(t, ...choose, '--model', model, '--sweep', at('pictured'), '--out', at('chosen-again'));
  const chosenIn = async (folder: string): Promise<unknown> =>
    JSON.parse(await readFile(at(folder, 'set/manifest.json'), 'utf8')).examples.map(
      ({ prompt, candidate }: { prompt: string; candidate: number }) => [prompt, candidate],
    );
  const best = ['a red circle', 'a blue square'].map((prompt) => {
    const own = rows.filter((row) => row.prompt === prompt);
    own.sort((a, b) => (b.scores.picture_mi as number) - (a.scores.picture_mi as number));
    return [prompt, own[0]?.candidate];
  });
  t.same(await chosenIn('chosen'), best);
  t.same(await chosenIn('chosen-again'), best);
  await refused(
    t,
    2,
    /--select: expected mi, random, length, got "picture"/,
    'mi-tune',
    'build',
    '--model',
    model,
    '--sweep',
    at('whole'),
    '--select',
    'picture',
    '--out',
    at('x'),
  );
});

t.test('rounds, tuning further, baselines, evaluation and report', async (t) => {
  const tuning = [
    '--rank',
    '2',
    '--alpha',
    '2',
    '--tune-batch',
    '2',
    '--accumulation',
    '1',
    '--updates',
    '2',
    '--learning-rate',
    '0.01',
  ];
  const validation = ['--validate', at('held.txt'), '--validate-every', '1', '--validate-images', '1'];
  const prompts = ['--prompts', at('prompts.txt'), '--candidates', '2'];
  const result = JSON.parse(
    await ok(
      t,
      'mi-tune',
      'run',
      ...small,
      ...prompts,
      ...tuning,
      ...validation,
      '--rounds',
      '2',
      '--keep',
      'best',
      '--out',
      at('rounds'),
    ),
  );
  t.equal(result.rounds.length, 2);
  const adapter = result.rounds[1].adapter as string;
  t.match(await readdir(adapter), ['pytorch_lora_weights.safetensors']);
  t.match(await readFile(result.report, 'utf8'), /Choice of candidates/);
  await ok(
    t,
    'mi-tune',
    'build',
    '--model',
    model,
    '--sweep',
    at('rounds/round-1/sweep'),
    '--select',
    'random',
    '--out',
    at('random'),
  );
  const train = ['mi-tune', 'train', '--model', model, '--set', at('random/set'), ...tuning];
  const trained = JSON.parse(
    await ok(t, ...train, '--text-encoder', '--gradient-checkpointing', '--out', at('text')),
  );
  t.ok(trained.parameters > 0);
  await ok(t, ...train, '--from', adapter, '--out', at('further'));
  const evaluation = [
    'mi-tune',
    'evaluate',
    ...small,
    '--prompts',
    `color=${at('held.txt')}`,
    '--scorer',
    lengths,
    '--images',
    '2',
  ];
  t.match(await ok(t, ...evaluation, '--out', at('base')), /\| length \| color \| 5 \| 5 \| 5 \| 2 \|/);
  await ok(t, ...evaluation, '--adapter', adapter, '--out', at('tuned'));
  const { report } = JSON.parse(
    await ok(t, 'mi-tune', 'report', at('rounds'), `base=${at('base')}`, `tuned=${at('tuned')}`),
  );
  t.match(await readFile(report, 'utf8'), /tuned minus base/);
  await refused(
    t,
    5,
    /expected an adapter for this UNet2DConditionModel, got one for another/,
    'mi-tune',
    'evaluate',
    '--model',
    SHIPPED_WEIGHTS,
    '--steps',
    '1',
    '--adapter',
    adapter,
    '--suite',
    'single',
    '--out',
    at('x'),
  );
  const [picture = ''] = await readdir(at('base/pictures'));
  await writeFile(at('base/pictures/metadata.jsonl'), JSON.stringify({ file_name: picture, text: 'a cat' }));
  await refused(
    t,
    2,
    /--real: expected at least 2 pictures for the share 1, got 1/,
    'mi-tune',
    'build',
    ...small,
    ...prompts,
    '--real',
    at('base/pictures'),
    '--real-fraction',
    '1',
    '--out',
    at('few'),
  );
  t.notOk((await readdir(folder)).includes('few'), 'before anything is scored');
  await refused(
    t,
    2,
    /--real-fraction: expected 0 without --real/,
    'mi-tune',
    'run',
    ...small,
    ...prompts,
    '--real-fraction',
    '0.5',
    '--out',
    at('x'),
  );
  await refused(
    t,
    5,
    /option top: 1 in the folder, 2 now/,
    'mi-tune',
    'run',
    ...small,
    ...prompts,
    ...tuning,
    ...validation,
    '--keep',
    'best',
    '--top',
    '2',
    '--out',
    at('rounds'),
  );
});

t.test('estimates with curves and maps', async (t) => {
  const [picture = ''] = await readdir(at('base/pictures'));
  const image = at('base/pictures', picture);
  const words = [
    'mi',
    'estimate',
    image,
    '--model',
    model,
    '--prompt',
    'a cat',
    '--prompt',
    'a dog, barking',
    '--strata',
    '2',
    '--replicates',
    '2',
  ];
  const printed = JSON.parse(await ok(t, ...words, '--curve', '--maps', '--out', at('estimate')));
  const results = JSON.parse(await readFile(at('estimate/estimates.json'), 'utf8'));
  t.same(
    printed,
    results.map(({ curve: _, ...numbers }: { curve: unknown }) => numbers),
    'curves are in the folder alone',
  );
  t.same(
    results.map(({ prompt }: { prompt: string }) => prompt),
    ['a cat', 'a dog, barking'],
  );
  t.ok(
    results.every(
      ({ mi, standardError, curve }: { mi: number; standardError: number; curve: unknown[] }) =>
        mi > 0 && standardError > 0 && curve.length > 1,
    ),
  );
  t.equal((await readdir(at('estimate/maps'))).length, 4);
  t.match(
    await readFile(at('estimate/tables/01-mutual-information-nats.csv'), 'utf8'),
    /^image,a cat,"a dog, barking"\r\n/,
  );
  await refused(t, 2, /--maps: expected nothing without --out/, ...words, '--maps');
  await writeFile(at('bad.png'), 'x');
  await refused(t, 4, /bad\.png: expected an image/, ...words.with(2, at('bad.png')));
});

t.test("the embedded model's suites", async (t) => {
  const words = [
    'mi-tune',
    'evaluate',
    '--model',
    SHIPPED_WEIGHTS,
    '--sampler',
    'ddim',
    '--steps',
    '2',
    '--suite',
    'single,spatial',
    '--suite-prompts',
    '2',
    '--images',
    '1',
  ];
  const table = await ok(t, ...words, '--out', at('suite'));
  for (const score of ['mi', 'aligned', 'clip'])
    for (const category of ['single', 'spatial', 'mean'])
      t.match(table, new RegExp(`\\| ${score} \\| ${category} \\|`));
  await refused(
    t,
    2,
    /--prompts: expected either prompt files or --suite/,
    ...words,
    '--prompts',
    at('held.txt'),
    '--out',
    at('x'),
  );
});

t.test('the study, in its smallest size', async (t) => {
  const words = ['mi-tune', 'study', '--size', 'tiny', '--categories', 'single', '--out', at('study')];
  const plan = JSON.parse(await ok(t, ...words, '--plan'));
  t.match(plan.workPerSeed, { pairSteps: Number, tunedExamples: Number, pictureDraws: Number });
  const first = await ok(t, ...words);
  for (const name of ['Methods', 'Adapters', 'Candidates', 'Real pictures'])
    t.match(first, new RegExp(`## ${name}: aligned pictures, %`));
  for (const name of [
    'MI-TUNE (pictures), round 2',
    'MI-TUNE (in the loop)',
    'CLIP-selected',
    'judge-selected',
    'UNet alone',
    '2 of 4',
    'real 0.5',
    'highest MI of the finished picture',
    'picture_mi, aligned',
  ])
    t.ok(first.includes(`| ${name} |`), name);
  t.match(first, /Kendall's tau-b/);
  const [identity = ''] = await readdir(at('study'));
  const cells = at('study', identity, 'seed-1');
  const changed = async (): Promise<number[]> =>
    Promise.all(
      ['pool', 'tests/base', 'cells/pictures', 'cells/real-0.5'].map(
        async (cell) => (await stat(join(cells, cell, 'run.json'))).mtimeMs,
      ),
    );
  const before = await changed();
  t.equal(await ok(t, ...words), first, 'finished cells are kept');
  t.same(await changed(), before, 'and not opened again');
});
