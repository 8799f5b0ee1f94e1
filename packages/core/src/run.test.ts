import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { appendFile, mkdir, readdir, readFile, rm, truncate, utimes, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import {
  acquireLock,
  EquipoiseError,
  gitState,
  Journal,
  packageVersions,
  Run,
  type RunSpec,
  readJournal,
  readRunRecord,
} from './index.js';

const spec: RunSpec = {
  command: 'train',
  options: { steps: 10, model: 'm', device: 'cpu', nested: { a: [1, 2] } },
  free: ['device'],
  seeds: { data: 2n ** 60n },
  inputs: { model: 'abc' },
  device: { engine: 'cpu' },
  argv: ['train', '--steps', '10'],
};

/** Starts a process that runs `body`, and waits for its first output. */
async function startProcess(body: string): Promise<{ child: ChildProcess; output: string }> {
  const script = `import * as core from '@equipoise/core'; ${body}`;
  const child = spawn(
    process.execPath,
    ['--import=tsx', '--conditions=equipoise-source', '--input-type=module', '-e', script],
    { stdio: ['pipe', 'pipe', 'inherit'] },
  );
  const [data] = (await once(child.stdout as NonNullable<typeof child.stdout>, 'data')) as [Buffer];
  return { child, output: data.toString().trim() };
}

t.test('a run records what was asked, and resumes', async (t) => {
  const folder = join(t.testdir(), 'run');
  const first = await Run.open(folder, spec);
  t.notOk(first.resumed);
  t.equal(await first.time('step', async () => 5), 5);
  await first.time('step', () => 6);
  await first.checkpoint();
  t.match(await readRunRecord(folder), {
    format: 1,
    command: 'train',
    options: spec.options,
    seeds: { data: '1152921504606846976' },
    status: 'running',
    sessions: [
      {
        argv: spec.argv,
        outcome: 'running',
        timings: { step: { count: 2 } },
        machine: { node: process.version },
      },
    ],
  });
  await first.stop();

  const second = await Run.open(folder, { ...spec, options: { ...spec.options, device: 'cuda' } });
  t.ok(second.resumed);
  await second.fail(new EquipoiseError('numeric', 'loss is NaN at step 3'));
  // A record that cannot be written must not hide the error that is being told.
  const lost = await Run.open(folder, spec);
  const saved = await readFile(join(folder, 'run.json'));
  await rm(join(folder, 'run.json'));
  await mkdir(join(folder, 'run.json'));
  await lost.fail(new EquipoiseError('numeric', 'loss is NaN at step 4'));
  await rm(join(folder, 'run.json'), { recursive: true });
  await writeFile(join(folder, 'run.json'), saved);
  const third = await Run.open(folder, spec);
  await third.finish();
  const record = await readRunRecord(folder);
  t.equal(record?.status, 'finished');
  t.match(
    record?.sessions.map(({ outcome, error }) => [outcome, error]),
    [
      ['stopped', undefined],
      ['failed', 'loss is NaN at step 3'],
      ['failed', 'the process was killed'],
      ['finished', undefined],
    ],
  );
  t.strictSame(await readdir(folder), ['run.json']);
});

t.test('a folder of a different run is refused, with every difference named', async (t) => {
  const folder = t.testdir();
  await (await Run.open(folder, spec)).finish();
  const other = {
    ...spec,
    options: { steps: 20, model: 'm', nested: { a: [1, 3] }, extra: true },
    seeds: {},
    inputs: { model: 'x' },
  };
  await t.rejects(Run.open(folder, other), {
    code: 'conflict',
    message: [
      `${folder}: holds a different run`,
      '  option steps: 10 in the folder, 20 now',
      '  option nested: {"a":[1,2]} in the folder, {"a":[1,3]} now',
      '  seed data: "1152921504606846976" in the folder, nothing now',
      '  input model: "abc" in the folder, "x" now',
      '  option extra: nothing in the folder, true now',
    ].join('\n'),
  });
  // The refusal must not leave the folder locked, nor touch the record.
  await (await Run.open(folder, spec)).finish();
  await writeFile(join(folder, 'run.json'), '{"format": 99}');
  await t.rejects(Run.open(folder, spec), {
    code: 'corrupt',
    message: /run\.json: format: expected 1, got 99/,
  });
  await writeFile(join(folder, 'run.json'), '{"for');
  await t.rejects(Run.open(folder, spec), { code: 'corrupt', message: /run\.json: expected valid JSON/ });
});

t.test('what an earlier version recorded is brought up to date', async (t) => {
  const folder = t.testdir();
  await (await Run.open(folder, spec)).finish();
  const { steps, ...others } = spec.options;
  const renamed = { ...spec, options: { ...others, updates: steps } };
  await t.rejects(Run.open(folder, renamed), { code: 'conflict' });
  const upgrade: RunSpec['upgrade'] = ({ options: { steps: updates, ...rest }, ...earlier }) => ({
    ...earlier,
    options: { updates, ...rest },
  });
  const run = await Run.open(folder, { ...renamed, upgrade });
  t.ok(run.resumed);
  await run.finish();
  t.same((await readRunRecord(folder))?.options, renamed.options, 'and recorded as it is called now');
});

t.test('names that leave the folder are refused', async (t) => {
  const run = await Run.open(t.testdir(), spec);
  t.equal(run.path('a', 'b.json'), join(run.folder, 'a/b.json'));
  t.equal(run.path(), run.folder);
  for (const name of ['..', '../x', '/etc/passwd', 'a/../../x'])
    t.throws(() => run.path(name), { code: 'unsafe' });
  await run.finish();
});

t.test('two processes on one folder: the second is refused, a killed one is taken over', async (t) => {
  const folder = t.testdir();
  const body = `await core.Run.open(${JSON.stringify(folder)}, { command: 'train', options: {} });
    console.log('open'); process.stdin.resume();`;
  const { child, output } = await startProcess(body);
  t.equal(output, 'open');
  const mine = { command: 'train', options: {} };
  await t.rejects(Run.open(folder, mine), {
    code: 'busy',
    message: new RegExp(`in use by process ${child.pid} since`),
  });
  child.kill('SIGKILL');
  await once(child, 'exit');
  const run = await Run.open(folder, mine);
  t.match(run.record.sessions[0], { outcome: 'failed', error: 'the process was killed' });
  t.ok(run.resumed);
  await t.rejects(Run.open(folder, mine), { code: 'busy' }, 'nor twice in one process');
  await run.finish();
});

t.test('of many that take over a stale lock at once, one wins', async (t) => {
  const path = join(t.testdir(), '.lock');
  const dead = Number(execFileSync(process.execPath, ['-p', 'process.pid'], { encoding: 'utf8' }));
  await writeFile(
    path,
    JSON.stringify({ pid: dead, host: hostname(), processStart: null, nonce: 'old', since: '' }),
  );
  const results = await Promise.allSettled(Array.from({ length: 8 }, () => acquireLock(path)));
  const held = results.filter((result) => result.status === 'fulfilled');
  t.equal(held.length, 1);
  for (const result of results) if (result.status === 'rejected') t.match(result.reason, { code: 'busy' });
  await held[0]?.value.release();
  await (await acquireLock(path)).release();
});

t.test('a reused process id and a silent other machine do not hold a lock', async (t) => {
  const path = join(t.testdir(), '.lock');
  const owner = { pid: process.pid, host: hostname(), processStart: '1', nonce: 'old', since: '' };
  await writeFile(path, JSON.stringify(owner));
  if (process.platform === 'linux') await (await acquireLock(path)).release();
  await writeFile(path, JSON.stringify({ ...owner, host: 'elsewhere' }));
  await t.rejects(acquireLock(path), { code: 'busy', message: /on elsewhere/ });
  await utimes(path, new Date(), new Date(Date.now() - 120_000));
  const lock = await acquireLock(path);
  t.notOk(lock.lost.aborted);
  await lock.release();
  await writeFile(path, 'garbage');
  await t.rejects(acquireLock(path), { code: 'busy' });
});

t.test('a journal survives a torn line and keeps order', async (t) => {
  const path = join(t.testdir(), 'units.jsonl');
  const journal = await Journal.open<number>(path);
  await Promise.all([journal.append('a', 1), journal.append('b', 2), journal.append('a', 3)]);
  let runs = 0;
  t.equal(await journal.once('c', async () => ++runs), 1);
  t.equal(await journal.once('c', async () => ++runs), 1);
  await journal.close();
  await appendFile(path, '{"key":"d","val');
  const before = await readFile(path);
  t.strictSame([...(await readJournal<number>(path)).keys()], ['a', 'b', 'c']);
  t.ok(before.equals(await readFile(path)), 'reading changes nothing');
  const again = await Journal.open<number>(path);
  t.strictSame(
    [...again.entries],
    [
      ['a', 3],
      ['b', 2],
      ['c', 1],
    ],
  );
  t.notOk(again.has('d'));
  await again.append('d', 4);
  t.throws(() => again.append('e', undefined as unknown as number), { message: /expected a JSON value/ });
  await again.close();
  const last = await Journal.open<number>(path);
  t.equal(last.get('d'), 4);
  await last.close();

  const whole = await readFile(path);
  for (let length = 0; length < whole.byteLength; length += 7) {
    await writeFile(path, whole);
    await truncate(path, length);
    const torn = await Journal.open<number>(path);
    t.ok(
      [...torn.entries.keys()].every((key) => 'abcd'.includes(key)),
      `cut at ${length}`,
    );
    await torn.close();
  }
  await writeFile(path, '{"key":1,"value":2}\n');
  await t.rejects(Journal.open(path), {
    code: 'corrupt',
    message: /line 1: expected an object with key and value/,
  });
  await writeFile(path, 'x\n');
  await t.rejects(Journal.open(path), { code: 'corrupt', message: /line 1 is not valid JSON/ });
});

t.test('a damaged journal drops what is damaged, where its owner can tell', async (t) => {
  const path = join(t.testdir(), 'units.jsonl');
  await writeFile(
    path,
    '{"key":"a","value":1}\nrubbish\n{"key":"b","value":-1}\n{"key":"c","value":3}\n{"key":"d',
  );
  const journal = await Journal.open<number>(path, { accept: (_, value) => (value as number) > 0 });
  t.equal(journal.dropped, 2);
  t.strictSame(
    [...journal.entries],
    [
      ['a', 1],
      ['c', 3],
    ],
  );
  await journal.append('b', 2);
  await journal.close();
  t.strictSame([...(await Journal.read<number>(path)).values()], [1, 3, 2]);
  t.equal((await Journal.read(`${path}.none`)).size, 0);
  const again = await Journal.open<number>(path);
  t.strictSame(
    [...again.entries],
    [
      ['a', 1],
      ['c', 3],
      ['b', 2],
    ],
  );
  await again.close();
});

t.test('a journal on a full device says so and keeps what it has', async (t) => {
  const path = join(t.testdir(), 'units.jsonl');
  const script = `import { Journal } from '@equipoise/core';
    process.on('SIGXFSZ', () => {});
    const journal = await Journal.open(${JSON.stringify(path)});
    await journal.append('small', 1);
    await journal.append('large', 'x'.repeat(1 << 20)).then(
      () => console.log('written'), (error) => console.log(error.code, error.message.includes('size limit')));
    await journal.append('next', 2);
    await journal.close();`;
  const command = `ulimit -f 64; exec "${process.execPath}" --import=tsx --conditions=equipoise-source --input-type=module -e "$SCRIPT"`;
  const output = execFileSync('bash', ['-c', command], {
    env: { ...process.env, SCRIPT: script },
    encoding: 'utf8',
  });
  t.equal(output.trim(), 'io true');
  const journal = await Journal.open(path);
  t.strictSame(
    [...journal.entries],
    [
      ['small', 1],
      ['next', 2],
    ],
  );
  await journal.close();
});

t.test('the environment', async (t) => {
  const versions = await packageVersions(['zod', 'no-such-package'], import.meta.url);
  t.match(versions, { zod: /^\d+\.\d+\.\d+/ });
  t.notOk('no-such-package' in versions);
  const folder = t.testdir({ f: '1' });
  t.equal(await gitState('/'), null);
  const git = (...args: string[]): string =>
    execFileSync('git', ['-C', folder, ...args], { encoding: 'utf8' }).trim();
  git('init', '-q', '-b', 'trunk');
  git('add', '.');
  git('-c', 'user.name=t', '-c', 'user.email=t@t', 'commit', '-q', '-m', 'x');
  t.strictSame(await gitState(folder), { commit: git('rev-parse', 'HEAD'), branch: 'trunk', dirty: false });
  await writeFile(join(folder, 'f'), '2');
  t.match(await gitState(folder), { dirty: true });
});
