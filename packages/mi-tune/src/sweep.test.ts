/** Sweeps: the same rows whatever interrupts, damages or splits them; their tables; what is refused. */
import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { useEngine } from '@equipoise/backend';
import { acquireLock } from '@equipoise/core';
import { createSampler } from '@equipoise/diffusion';
import * as tf from '@tensorflow/tfjs-core';
import t from 'tap';
import {
  type AlignmentScorer,
  allSavings,
  exportScores,
  mergeSweeps,
  partsSchedule,
  queryScores,
  readSweep,
  type Savings,
  type SweepOptions,
  type SweepRow,
  scoringSampler,
  selectCandidates,
  sweep,
  topCandidates,
} from './index.js';
import { smallParts } from './testing.js';

await useEngine('equipoise-cpu');
const parts = await smallParts();
const folder = t.testdir();
const at = (name: string): string => path.join(folder, name);

const options: SweepOptions = {
  prompts: ['a red circle', 'a blue square', 'a cat'],
  candidates: 5,
  batch: 4,
  steps: 12,
  guidance: 7.5,
  seed: 42,
};
const whole = await sweep({ folder: at('whole'), parts, options });

t.test('an interrupted sweep resumes to the same rows', async (t) => {
  t.equal(whole.length, 15);
  t.ok(whole.every(({ mi }) => mi > 0));
  const stop = new AbortController();
  const lines: unknown[] = [];
  const interrupted = at('interrupted');
  await t.rejects(
    sweep(
      { folder: interrupted, parts, options },
      {
        signal: stop.signal,
        onProgress: ({ task, done, values }) => {
          if (task === 'mi sweep') lines.push(values);
          if (task === 'mi sweep' && done === 8) stop.abort();
        },
      },
    ),
    { code: 'cancelled' },
  );
  t.match(lines.at(-1), { rate: /pairs\/s/, left: /\d+s/, cpu: /\d+%/ });
  const journal = fs.readFileSync(path.join(interrupted, 'scores.jsonl'), 'utf8');
  t.equal(journal.split('\n').length - 1, 2, 'two batches are done');
  // As a kill in the middle of a write would leave it.
  fs.writeFileSync(path.join(interrupted, 'scores.jsonl'), `${journal}{"key":"2","val`);
  t.same(await sweep({ folder: interrupted, parts, options }), whole);
  await t.rejects(sweep({ folder: at('whole'), parts, options: { ...options, guidance: 3 } }), {
    code: 'conflict',
    message: /option guidance: 7.5 in the folder, 3 now/,
  });
  await t.rejects(sweep({ folder: at('whole'), parts, options, adapter: 'another' }), {
    code: 'conflict',
    message: /input adapter/,
  });
});

t.test('damaged batches are found and made again', async (t) => {
  const file = path.join(at('whole'), 'scores.jsonl');
  const good = fs.readFileSync(file, 'utf8');
  const lines = good.trimEnd().split('\n') as [string, string, string, string];
  // A digit flipped inside a number, a line cut short, a batch that does not exist.
  const flipped = lines[0].replace(/\d(?=\]\])/, (d) => String((Number(d) + 1) % 10));
  t.not(flipped, lines[0]);
  fs.writeFileSync(
    file,
    [flipped, lines[1].slice(0, 40), lines[2], lines[3], '{"key":"9","value":{"rows":[]}}', ''].join('\n'),
  );
  const found = await readSweep(at('whole'));
  t.same([found.damaged, found.missing], [3, [0, 1]]);
  const messages: string[] = [];
  t.same(
    await sweep({ folder: at('whole'), parts, options, onDamage: (message) => messages.push(message) }),
    whole,
  );
  t.match(messages, [/scores\.jsonl: 3 damaged lines; their batches are made again/]);
  t.same(
    fs.readFileSync(file, 'utf8').trimEnd().split('\n').sort(),
    [...lines].sort(),
    'the journal holds the same lines again',
  );
  for (const damage of ['{}', '{"prompts":["a']) {
    fs.writeFileSync(path.join(at('whole'), 'prompts.json'), damage);
    await t.rejects(readSweep(at('whole')), { code: 'corrupt', message: /prompts\.json: expected/ });
    t.same(await sweep({ folder: at('whole'), parts, options }), whole, 'prompts are written again');
  }
});

const noLimits = spawnSync('prlimit', ['--version']).status === 0 ? false : 'needs prlimit (util-linux)';
t.test('a full disk stops the sweep, which goes on when there is room', { skip: noLimits }, async (t) => {
  // A limit on file sizes makes the kernel refuse the journal's writes half-way, as a full disk does. It is set when all
  // modules are loaded: the loader's cache writes files, too.
  const many = { ...options, prompts: ['a red circle'], candidates: 120, steps: 2, batch: 4 };
  const script = `import { execFileSync } from 'node:child_process';
    import { useEngine } from '@equipoise/backend';
    import { sweep } from '@equipoise/mi-tune';
    import { smallParts } from ${JSON.stringify(new URL('./testing.ts', import.meta.url).href)};
    process.on('SIGXFSZ', () => {});
    await useEngine('equipoise-cpu');
    const parts = await smallParts();
    execFileSync('prlimit', ['--pid', String(process.pid), '--fsize=4096']);
    await sweep({ folder: ${JSON.stringify(at('full'))}, parts, options: ${JSON.stringify(many)} }).then(
      () => console.log('finished'), (error) => console.log(error.code, error.message));`;
  const output = execFileSync(
    process.execPath,
    ['--import=tsx', '--conditions=equipoise-source', '--input-type=module', '-e', script],
    { cwd: import.meta.dirname, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] },
  );
  t.match(output, /^io .*scores\.jsonl: cannot write: the file would exceed the size limit/m);
  const found = await readSweep(at('full'));
  t.ok(found.batches.size > 10 && found.missing.length > 0, `${found.batches.size} batches are done`);
  t.ok(found.damaged <= 1, 'at most the line that was cut short');
  const rows = await sweep({ folder: at('full'), parts, options: many });
  t.same(rows, await sweep({ folder: at('roomy'), parts, options: many }));
});

t.test('each exact saving changes no score', async (t) => {
  const scores = (rows: readonly SweepRow[]): number[] => rows.map(({ mi }) => mi);
  const none = await sweep({ folder: at('none'), parts, options, savings: allSavings(false) });
  t.strictSame(scores(none), scores(whole), 'all on against all off, to the last bit');
  for (const saving of Object.keys(allSavings(true)) as (keyof Savings)[]) {
    const savings = { ...allSavings(false), [saving]: true };
    const rows = await sweep({ folder: at(saving), parts, options, savings });
    t.strictSame(scores(rows), scores(none), saving);
  }
  const sampler = createSampler(parts.scheduler, { steps: 50 }, partsSchedule(parts));
  t.equal(scoringSampler(sampler).timesteps.length, 47, 'of 50 steps 3 do not count');
});

t.test('shards merge to the whole', async (t) => {
  const shards: string[] = [];
  const rows = [];
  for (let index = 0; index < 4; index++) {
    shards.push(at(`shard-${index}`));
    rows.push(await sweep({ folder: at(`shard-${index}`), parts, options, shard: { index, count: 4 } }));
  }
  const inOrder = (a: SweepRow, b: SweepRow): number =>
    a.promptIndex - b.promptIndex || a.candidate - b.candidate;
  t.same(rows.flat().sort(inOrder), whole);
  t.same(await mergeSweeps(at('merged'), [...shards].reverse()), whole);
  t.same(await sweep({ folder: at('merged'), parts, options }), whole, 'the merged folder is a whole sweep');
  const all = 'SELECT * FROM scores ORDER BY prompt_index, candidate';
  t.same(await queryScores([at('merged')], all), await queryScores([at('whole')], all));
  t.same(await queryScores(shards, all), await queryScores([at('whole')], all));
  await t.rejects(mergeSweeps(at('none-left'), shards.slice(1)), {
    code: 'conflict',
    message: /shards: expected all 4 shards, got none of 1\/4/,
  });
  await t.rejects(mergeSweeps(at('twice'), [...shards, shards[2] as string]), {
    code: 'conflict',
    message: /each shard once, got shard 3\/4/,
  });
  const first = { folder: shards[0] as string, parts, options };
  await t.rejects(sweep({ ...first, shard: { index: 1, count: 4 } }), {
    code: 'conflict',
    message: /different run\n {2}option shard: "1 of 4" in the folder, "2 of 4" now$/,
  });
  // As earlier versions counted.
  const record = path.join(first.folder, 'run.json');
  fs.writeFileSync(record, fs.readFileSync(record, 'utf8').replace('"1 of 4"', '"0/4"'));
  fs.writeFileSync(record, fs.readFileSync(record, 'utf8').replace(/^.*"sampler".*$/m, ''));
  t.same(await mergeSweeps(at('merged'), shards), whole);
  t.same(await sweep({ ...first, shard: { index: 0, count: 4 } }), rows[0]);
  t.match((await readSweep(first.folder)).record.options, { sampler: 'DDPMScheduler', shard: '1 of 4' });
  const scheduler = { ...parts.scheduler, className: 'DDIMScheduler' as const };
  await t.rejects(
    sweep({ ...first, parts: { ...parts, scheduler, hash: 'x' }, shard: { index: 0, count: 4 } }),
    {
      code: 'conflict',
      message: /option sampler: "DDPMScheduler" in the folder, "DDIMScheduler" now\n {2}input model: /,
    },
  );
  await sweep({
    folder: at('other'),
    parts,
    options: { ...options, seed: 1 },
    shard: { index: 3, count: 4 },
  });
  await t.rejects(mergeSweeps(at('mixed'), [...shards.slice(0, 3), at('other')]), {
    code: 'conflict',
    message: /expected shards of one sweep, got two[\s\S]*seed: 42 and 1/,
  });
  fs.appendFileSync(path.join(shards[1] as string, 'scores.jsonl'), 'x');
  fs.truncateSync(path.join(shards[1] as string, 'scores.jsonl'), 30);
  await t.rejects(mergeSweeps(at('damaged'), shards), {
    code: 'corrupt',
    message: /shard-1: expected 1 whole batches, got 0/,
  });
  t.notOk(fs.existsSync(at('damaged')));
});

t.test('Parquet through DuckDB, and CSV', async (t) => {
  const { columns, rows } = await queryScores(
    [at('whole')],
    'SELECT prompt, count(*) AS n, max(mi) AS best, arg_max(seed, mi) AS seed FROM scores GROUP BY prompt, prompt_index ORDER BY prompt_index',
  );
  t.same(columns, ['prompt', 'n', 'best', 'seed']);
  const best = topCandidates(whole, 1);
  t.same(
    rows,
    best.map(({ prompt, mi, candidate }) => [prompt, 5, mi, 42 + candidate]),
  );
  const csv = await exportScores(at('whole'), at('scores.csv'));
  t.match(fs.readFileSync(csv, 'utf8').split('\n').slice(0, 2), [
    /^prompt,prompt_index,candidate,seed,mi,model,adapter,options$/,
    /^a red circle,0,0,42,/,
  ]);
  fs.writeFileSync(at('bad.parquet'), 'not parquet');
  await t.rejects(queryScores([at('bad.parquet')], 'SELECT 1'), { code: 'corrupt', message: /bad\.parquet/ });
  await t.rejects(queryScores([at('whole')], 'SELECT no_such FROM scores'), {
    code: 'invalid',
    message: /query: .*no_such/,
  });
  await t.rejects(queryScores([at('nowhere')], 'SELECT 1'), { code: 'missing' });
  await t.rejects(exportScores(at('whole'), at('scores.txt')), /name ending in \.parquet or \.csv/);
  await t.rejects(exportScores(at('whole'), '/proc/scores.parquet'), /scores\.parquet/);
  t.equal(await exportScores(at('whole'), at('new/folder/scores.csv')), at('new/folder/scores.csv'));
  fs.writeFileSync(at('file'), '');
  await t.rejects(exportScores(at('whole'), at('file/scores.csv')), {
    code: 'io',
    message: /\/file(\/scores\.csv)?: cannot write: a part of the path is not a folder/,
  });
});

t.test('tables of a sweep that is not whole', async (t) => {
  fs.cpSync(at('whole'), at('part'), { recursive: true });
  const journal = at('part/scores.jsonl');
  const told: string[] = [];
  const tell = (message: string): void => void told.push(message);
  await exportScores(at('part'), undefined, tell);
  t.same(told, [], 'nothing to tell of a whole one');
  const lines = fs.readFileSync(journal, 'utf8').trim().split('\n');
  fs.writeFileSync(journal, [...lines.slice(0, -1), '{'].join('\n'));
  const { rows } = await queryScores([at('part')], 'SELECT count(*) FROM scores', tell);
  t.ok((rows[0]?.[0] as number) < whole.length, 'not the table that was exported while it was whole');
  t.same(told, [
    `${at('part')}: has ${lines.length - 1} of ${lines.length} batches so far; 1 line of the journal is damaged`,
  ]);
  fs.writeFileSync(journal, '');
  await exportScores(at('part'), at('none.parquet'), tell);
  t.same((await queryScores([at('none.parquet')], 'SELECT * FROM scores')).rows, []);
});

t.test('further scores of finished pictures', async (t) => {
  const brightness: AlignmentScorer = {
    name: 'brightness',
    hash: 'v1',
    score: async (images) =>
      images.map(({ data }) => data.reduce((sum, value) => sum + value, 0) / data.length),
  };
  const decode = async (latents: tf.Tensor4D) => {
    const [count, height, width] = latents.shape;
    const values = await latents.data();
    return Array.from({ length: count }, (_, n) => ({
      width,
      height,
      data: Uint8Array.from(
        { length: height * width * 3 },
        (_, i) => Math.abs(values[n * 64 + i] as number) * 50,
      ),
    }));
  };
  const job = { folder: at('scored'), parts, options, pictures: { scorers: [brightness], decode } };
  const rows = await sweep(job);
  t.same(
    rows.map(({ mi }) => mi),
    whole.map(({ mi }) => mi),
  );
  t.ok(rows.every(({ scores }) => (scores.brightness as number) > 0));
  const [best] = selectCandidates(rows, 1, { by: 'score', name: 'brightness' }) as [SweepRow];
  const own = rows
    .filter(({ promptIndex }) => promptIndex === 0)
    .map(({ scores }) => scores.brightness as number);
  t.equal(best.scores.brightness, Math.max(...own));
  t.throws(() => selectCandidates(rows, 1, { by: 'score', name: 'clip' }), {
    message: /selection: expected a score of the sweep \(brightness\), got clip/,
  });
  const other = { ...parts, vaeHash: 'another' };
  t.same(
    await sweep({ folder: at('whole'), parts: other, options }),
    whole,
    'MI in the loop needs no autoencoder',
  );
  await t.rejects(sweep({ ...job, parts: other }), {
    code: 'conflict',
    message: /different run\n {2}input vae: "fixture vae" in the folder, "another" now$/,
  });
  await t.rejects(
    sweep({ ...job, pictures: { scorers: [{ ...brightness, hash: 'v2' }], decode } }),
    /input scorer brightness/,
  );
  const nan = { ...brightness, name: 'nan', score: async () => [Number.NaN, 1, 1, 1] };
  await t.rejects(sweep({ ...job, folder: at('nan'), pictures: { scorers: [nan], decode } }), {
    code: 'numeric',
    message: /nan of candidate 0 of "a red circle": expected a finite number, got NaN/,
  });
  await t.rejects(
    sweep({ ...job, folder: at('name'), pictures: { scorers: [{ ...nan, name: 'mi' }], decode } }),
    {
      code: 'invalid',
    },
  );
  // As earlier versions left it: readable, but nobody knows with which autoencoder to go on.
  const record = at('scored/run.json');
  fs.writeFileSync(record, fs.readFileSync(record, 'utf8').replace(/^.*"vae".*$/m, ''));
  await t.rejects(sweep(job), {
    code: 'conflict',
    message:
      /different run\n {2}input vae: "not recorded by an earlier version" in the folder, "fixture vae" now$/,
  });
  t.same(await mergeSweeps(at('scored-merged'), [at('scored')]), rows);
});

t.test('choices', (t) => {
  const top = topCandidates(whole, 2);
  t.equal(top.length, 6);
  t.ok(top.every((row, i) => i % 2 === 0 || row.mi <= (top[i - 1] as SweepRow).mi));
  t.throws(() => topCandidates(whole, 6), /top: expected a whole number from 1 to the 5 candidates/);
  const random = selectCandidates(whole, 1, { by: 'random', seed: 3 });
  t.same(selectCandidates([...whole].reverse(), 1, { by: 'random', seed: 3 }), random, 'by seed alone');
  const draws = Array.from({ length: 40 }, (_, seed) =>
    selectCandidates(whole, 1, { by: 'random', seed }).map(({ candidate }) => candidate),
  );
  t.equal(new Set(draws.map(([first]) => first)).size, 5, 'every candidate has a chance');
  t.ok(selectCandidates(whole, 2, { by: 'mi' }, 3).every(({ candidate }) => candidate < 3));
  t.end();
});

t.test('bad input is refused by name', async (t) => {
  const refused = (changes: Partial<SweepOptions>, expected: RegExp) =>
    t.rejects(sweep({ folder: at('refused'), parts, options: { ...options, ...changes } }), {
      code: 'invalid',
      message: expected,
    });
  await refused({ prompts: [] }, /prompts: expected at least one prompt/);
  await refused({ prompts: ['a', ' '] }, /prompts\[1\]: expected a text, got " "/);
  await refused({ prompts: ['a', 'b', 'a'] }, /prompts: expected each prompt once, got "a" twice/);
  await refused({ steps: 1 }, /steps: expected steps of which one lies above timestep 50, got 1/);
  fs.rmSync(at('refused'), { recursive: true });
  const seed = Number.MAX_SAFE_INTEGER;
  await refused({ seed }, /seed: expected a whole number from 0 to \d+, so that .*, got 9007199254740991/);
  await refused({ candidates: 0 }, /candidates: expected a positive whole number, got 0/);
  await t.rejects(sweep({ folder: at('refused'), parts, options, shard: { index: 4, count: 4 } }), {
    code: 'invalid',
    message: /shard: expected an index from 0 to count - 1, got 4 of 4/,
  });
  t.notOk(fs.existsSync(at('refused')), 'nothing is left behind');
  const lock = await acquireLock(path.join(at('whole'), '.run.lock'));
  await t.rejects(sweep({ folder: at('whole'), parts, options }), {
    code: 'busy',
    message: /in use by process/,
  });
  await lock.release();
  const before = tf.memory().numTensors;
  await sweep({ folder: at('leaks'), parts, options: { ...options, prompts: ['a dog'] } });
  t.equal(tf.memory().numTensors, before, 'nothing leaks');
});
