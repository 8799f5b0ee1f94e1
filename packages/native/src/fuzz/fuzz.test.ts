import { Worker } from 'node:worker_threads';
import t from 'tap';
import { loadAddon } from '../index.js';
import { runCalls } from './run.js';
import { CONDITIONAL, unlisted } from './table.js';

const native = loadAddon('cpu');

t.test('every function of the addon is fuzzed', (t) => {
  t.same(unlisted(native), []);
  t.end();
});

t.test('a few thousand seeded calls are accepted or refused in good order', async (t) => {
  const limit = native.memory().limit;
  const { calls, functions, problems } = await runCalls(native, 2026, 0, 6000);
  native.setMemoryLimit(limit);
  t.equal(calls, 6000);
  t.same(problems, []);
  const never = Object.entries(functions).filter(
    ([name, counts]) => counts.accepted === 0 && !CONDITIONAL.has(name),
  );
  t.same(never, [], 'every function accepted something');
});

t.test('calls after shutdown are refused, and other threads go on', async (t) => {
  const source = `
    const { parentPort, workerData } = require('node:worker_threads');
    const native = require(workerData);
    const x = native.upload(Float32Array.of(1, 2), 'f32', [2], 'f32', false);
    const pending = native.read(x);
    native.shutdown();
    native.shutdown();
    const messages = [];
    for (const call of [() => native.ops.clip(x, 0, 1), () => native.readSync(x), () => native.memory(), () => native.describe()]) {
      try { call(); messages.push('accepted'); } catch (error) { messages.push(error.message); }
    }
    pending.then((values) => parentPort.postMessage({ messages, values: [...values] }));
  `;
  const { addonCandidates } = await import('../load.js');
  const { default: fs } = await import('node:fs');
  const file = addonCandidates('cpu').find((candidate) => fs.existsSync(candidate));
  const worker = new Worker(source, { eval: true, workerData: file });
  const { messages, values } = await new Promise<{ messages: string[]; values: number[] }>(
    (resolve, reject) => {
      worker.once('message', resolve);
      worker.once('error', reject);
    },
  );
  await worker.terminate();
  t.same(values, [1, 2], 'a read queued before shutdown is answered');
  for (const message of messages) t.match(message, /shut down/);
  t.equal(native.readSync(native.upload(Float32Array.of(3), 'f32', [1], 'f32', false))[0], 3);
});
