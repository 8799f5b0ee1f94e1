import { readFile } from 'node:fs/promises';
import { fixturesOf } from '@equipoise/testing';
import t from 'tap';
import { type FuzzFailure, fuzzReader } from './fuzz.js';
import { parseSafetensors } from './safetensors.js';

t.test('20,000 damaged files: each is refused in order, or read and consistent', async (t) => {
  const fixtures = fixturesOf(import.meta.url);
  const corpus = await Promise.all(
    ['example', 'types', 'empty', 'two-metadata'].map((name) =>
      readFile(fixtures.path(`containers/${name}.safetensors`)),
    ),
  );
  const report = await fuzzReader({
    count: 20_000,
    seed: 7,
    corpus: corpus.map((bytes) => new Uint8Array(bytes)),
  });
  t.equal(report.accepted + report.refused, 20_000);
  // The mutations must reach every layer of checks, and leave some files valid.
  t.ok(report.accepted > 200, `${report.accepted} accepted`);
  for (const reason of [
    'header',
    'header length',
    'dtype',
    'shape',
    'data_offsets',
    'data',
    '__metadata__',
  ]) {
    t.ok((report.reasons[reason] ?? 0) > 5, `${reason}: ${report.reasons[reason]} refusals`);
  }
  const repeat = async (): Promise<unknown> => ({
    ...(await fuzzReader({ count: 50, seed: 7, first: 100 })),
    slowestMs: 0,
  });
  t.strictSame(await repeat(), await repeat(), 'a seed repeats its mutations');
});

t.test('what loading a file shows is a failure, placed by its index', async (t) => {
  const tried: number[] = [];
  const failing = fuzzReader({
    count: 1000,
    seed: 7,
    before: (index) => tried.push(index),
    load: async (_, { tensors }) => (tensors.length > 1 ? 'a second tensor' : undefined),
  });
  await t.rejects(failing, { message: /^mutation \d+: a second tensor$/ });
  await failing.catch((error: FuzzFailure) => {
    t.equal(tried.at(-1), error.index);
    t.ok(parseSafetensors(error.bytes).tensors.length > 1, 'the file comes with it');
  });
});
