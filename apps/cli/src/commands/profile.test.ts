import { existsSync, readFileSync } from 'node:fs';
import { linear, useEngine } from '@equipoise/backend';
import { defineOptions, EquipoiseError, option, z } from '@equipoise/core';
import * as tf from '@tensorflow/tfjs-core';
import t from 'tap';
import { type CommandEntry, defineCommand, runCli } from '../index.js';
import type { ProfileRecord } from '../profile/report.js';
import { commands as allCommands } from './index.js';

const options = defineOptions('work', {
  calls: option(z.int().default(3), 'Products.'),
  fail: option(z.boolean().default(false), 'Ends with an error.'),
});
/** Products of 8 x 4 by 4 x 2 on our engine; no calls, no engine. */
const work = defineCommand({
  options,
  description: 'Computes.',
  async run({ calls, fail }, { print, argv, onProgress }) {
    if (calls > 0) await useEngine('equipoise-cpu');
    onProgress({ task: 'products', done: 0, total: calls });
    for (let i = 1; i <= calls; i++) {
      tf.tidy(() => void linear(tf.ones([8, 4]), tf.ones([2, 4]), null));
      onProgress({ task: 'products', done: i, total: calls, unit: 'product' });
    }
    print(argv.join(' '));
    if (fail) throw new EquipoiseError('missing', 'model: expected a folder, got nothing');
    return 7;
  },
});
const commands: Record<string, CommandEntry> = {
  profile: allCommands.profile as CommandEntry,
  work: { summary: 'Work', load: async () => work },
};

async function run(...argv: string[]): Promise<{ status: number; out: string; err: string }> {
  const [out, err]: [string[], string[]] = [[], []];
  const status = await runCli(argv, {
    print: (line) => void out.push(line),
    note: (line) => void err.push(line),
    signal: new AbortController().signal,
    commands,
  });
  return { status, out: out.join('\n'), err: err.join('\n') };
}

t.test('nothing of ours, nothing to tell', async (t) => {
  t.match(await run('profile', '--', 'work', '--calls', '0'), {
    status: 2,
    err: /command: expected one that computes on equipoise-cpu or equipoise-cuda, got "work --calls 0"/,
  });
  t.match(await run('profile', '--', 'profile', '--', 'work'), { status: 2, err: /another command/ });
  t.match(await run('profile'), { status: 2, err: /--command: expected a list/ });
  t.match(
    await run('profile', 'work', '--calls', '0'),
    { status: 2, err: /got "work --calls 0"/ },
    'without --',
  );
  t.match(await run('profile', '--top', '2', '--trace=x', 'werk', '--json', 'y'), {
    status: 2,
    err: /command: expected one of profile, work, got "werk"/,
  });
  t.match(await run('profile', '--tpo', '2', 'work'), { status: 2, err: /Did you mean --top\?/ });
  t.match(await run('profile', '--help'), { status: 0, out: /Usage: equipoise profile/ });
  t.match(await run('profile', 'work', '--help'), { status: 2, out: /Usage: equipoise work/ });
  t.match(await run('profile', '--', 'werk'), { status: 2, err: /command: expected one of profile, work/ });
});

t.test('a command runs as if alone, and its launches are counted', async (t) => {
  const folder = t.testdir();
  const [json, trace] = [`${folder}/p.json`, `${folder}/t.json`];
  const words = ['work', '--calls', '5'];
  const { status, out, err } = await run('profile', '--json', json, '--trace', trace, '--', ...words);
  t.equal(status, 7, 'the status of the command');
  t.equal(out, 'work --calls 5', 'standard output is the command\u2019s, and so is its record of the words');
  t.match(err, /device busy .* in \d+ launches/);
  t.match(err, /\nproducts .* 5 products /);
  t.match(err, /\nLinear \[8,4\] \[2,4\] +5 /);

  const record = JSON.parse(readFileSync(json, 'utf8')) as ProfileRecord;
  t.match(record, { format: 1, kind: 'profile', argv: ['profile', '--json', json], precision: 'f32' });
  const linears = record.ops.find(({ op }) => op === 'Linear');
  t.match(linears, { launches: 5, flops: 5 * 2 * 8 * 4 * 2, bytes: 5 * 4 * (32 + 8 + 16) });
  t.ok(record.ceilings.flops > 0 && record.ceilings.bandwidth > 0);
  const sum = (items: readonly { ms: number }[]): number => items.reduce((total, { ms }) => total + ms, 0);
  t.ok(Math.abs(sum(record.tasks) - record.ms) < 1e-3, 'tasks add up to the wall time');
  for (const items of [record.ops, record.shapes])
    t.ok(Math.abs(sum(items) - record.deviceMs) < 1e-3, 'ops add up to the device time');
  t.ok(record.deviceMs <= record.ms);

  const { traceEvents } = JSON.parse(readFileSync(trace, 'utf8')) as { traceEvents: { cat?: string }[] };
  t.equal(traceEvents.filter(({ cat }) => cat === 'launch').length, record.launches);
});

t.test('what fails is told about too', async (t) => {
  const folder = t.testdir({ file: '' });
  const json = `${folder}/p.json`;
  const failed = await run('profile', '--json', json, '--', 'work', '--fail');
  t.match(failed, { status: 3, err: /model: expected a folder/ });
  t.ok(existsSync(json));
  t.match(await run('profile', '--trace', `${folder}/file/t.json`, '--', 'work'), {
    status: 1,
    err: /file\/t\.json: cannot write: a part of the path is not a folder/,
  });
});
