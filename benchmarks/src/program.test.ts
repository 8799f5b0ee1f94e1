import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { useEngine } from '@equipoise/backend';
import * as tf from '@tensorflow/tfjs-core';
import t from 'tap';
import { parseCase } from './kernels/families.js';
import { countWork, floorSeconds, totalWork } from './measure/work.js';
import { INTERRUPTED } from './program.js';
import { parseRecord } from './record.js';

const program = fileURLToPath(new URL('./main.ts', import.meta.url));
const start = (...words: string[]) => {
  const child = spawn(
    process.execPath,
    ['--import=tsx', '--conditions=equipoise-source', program, ...words],
    { stdio: ['ignore', 'pipe', 'pipe'] },
  );
  child.stdout.resume();
  return child;
};

t.test('kernels at sizes that somebody asks for', (t) => {
  const { family, sizes } = parseCase('linear:m=5, k=6,n=7');
  t.same([family.name, sizes], ['linear', { m: 5, k: 6, n: 7 }]);
  for (const [text, message] of [
    ['linaer:m=1', /--case: expected a family \(linear, .*\) and its sizes, got "linaer:m=1"/],
    ['linear', /--case: expected linear:m=N,k=N,n=N, got no sizes/],
    ['linear:m=1,k=2', /expected linear:m=N,k=N,n=N, got/],
    ['linear:m=1,k=2,n=0', /expected linear:m=N,k=N,n=N, got/],
    ['linear:m=1,k=2,x=3', /expected linear:m=N,k=N,n=N, got/],
    ['linear:m=1,k=2,n=3,m=4', /expected linear:m=N,k=N,n=N, got/],
  ] as const)
    t.throws(() => parseCase(text), { code: 'invalid', message });
  t.end();
});

t.test('work is counted launch by launch', async (t) => {
  await useEngine('equipoise-cpu');
  const x = tf.ones([32, 8]);
  const work = await countWork(() =>
    tf.tidy(() => void tf.add(tf.matMul(x, x, false, true), tf.ones([32, 32]))),
  );
  x.dispose();
  const { flops } = totalWork(work);
  t.equal(flops, 2 * 32 * 32 * 8 + 32 * 32);
  const twice = [
    { flops: 10, bytes: 1, launches: 2 },
    { flops: 1, bytes: 30, launches: 1 },
  ];
  t.equal(floorSeconds(twice, { flops: 10, bandwidth: 10 }), 2 * 1 + 3, 'each bound by what it has more of');
  t.same(totalWork(twice), { flops: 21, bytes: 32 });
});

t.test('a run leaves a record that reads back', async (t) => {
  const json = `${t.testdir()}/new folder/record.json`;
  const child = start('--suite', 'dispatch', '--rounds', '1', '--json', json);
  t.same(await once(child, 'exit'), [0, null]);
  const record = parseRecord(readFileSync(json, 'utf8'), json);
  t.match(record, { suite: 'dispatch', argv: ['--suite', 'dispatch', '--rounds', '1', '--json', json] });
  t.ok(record.cases.some(({ id, seconds }) => id === 'dispatch linear' && seconds.length === 1));
});

t.test('an interrupted run leaves nothing', async (t) => {
  const json = `${t.testdir()}/record.json`;
  const child = start('--case', 'linear:m=8,k=8,n=8', '--rounds', '1000', '--seconds', '0.1', '--json', json);
  let errors = '';
  for await (const chunk of child.stderr.setEncoding('utf8')) {
    if (!errors.includes('cases (0%)') && (errors + chunk).includes('cases (0%)')) child.kill('SIGTERM');
    errors += chunk;
  }
  if (child.exitCode === null) await once(child, 'exit');
  t.equal(child.exitCode, INTERRUPTED);
  t.match(errors, /stopped by SIGTERM: no record was written/);
  t.notOk(existsSync(json));
});

t.test('mistakes are told from failures', async (t) => {
  const child = start('--case', 'linear:m=8');
  t.same(await once(child, 'exit'), [2, null]);
});
