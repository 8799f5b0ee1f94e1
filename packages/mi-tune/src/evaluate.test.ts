/** Which evaluations a folder takes, and which may be compared. */
import fs from 'node:fs';
import { join } from 'node:path';
import { useEngine } from '@equipoise/backend';
import { renderReport } from '@equipoise/report';
import t from 'tap';
import {
  type AlignmentScorer,
  decoderOf,
  type EvaluationJob,
  evaluate,
  type NamedEvaluation,
  readEvaluation,
  runReport,
} from './index.js';
import { smallPipeline } from './testing.js';

await useEngine('equipoise-cpu');
const { parts, pipeline } = await smallPipeline();
const folder = t.testdir({});
const at = (...names: string[]): string => join(folder, ...names);

const width: AlignmentScorer = {
  name: 'width',
  hash: 'v1',
  score: async (images) => images.map((image) => image.width),
};
const job: EvaluationJob = {
  folder: at('base'),
  parts,
  adapter: '',
  prompts: [
    { prompt: 'a red circle', category: 'color' },
    { prompt: 'a cat on a mat', category: 'spatial' },
  ],
  images: 2,
  sampling: { seed: 3, steps: 2, guidance: 5 },
  batch: 4,
  pictures: { scorers: [width], decode: decoderOf(pipeline) },
};
/** A finished run, as the report wants one. */
fs.mkdirSync(at('run'));
fs.writeFileSync(
  at('run', 'run.json'),
  JSON.stringify({ format: 1, command: 'mi-tune train', options: {}, sessions: [] }),
);
const compare = (...evaluations: NamedEvaluation[]) => runReport(at('run'), evaluations);
const named = (name: string): NamedEvaluation => ({ name, folder: at(name) });

t.test('a folder of another evaluation is refused and keeps its categories', async (t) => {
  await evaluate(job);
  const before = await readEvaluation(at('base'));
  const other = job.prompts.map(({ prompt }) => ({ prompt: `${prompt}, drawn`, category: 'other' }));
  await t.rejects(evaluate({ ...job, prompts: other }), { code: 'conflict', message: /input prompts/ });
  t.same(await readEvaluation(at('base')), before);
  await t.rejects(
    evaluate({ ...job, folder: at('mean'), prompts: [{ prompt: 'a dog', category: 'mean' }] }),
    { code: 'invalid', message: /category: expected a name other than "mean"/ },
  );
  t.notOk(fs.existsSync(at('mean')));
});

t.test('only evaluations that differ in the model alone are compared', async (t) => {
  const [first, second] = job.prompts;
  if (first === undefined || second === undefined) throw new Error('two prompts');
  const differing: [string, Partial<EvaluationJob>, RegExp][] = [
    ['order', { prompts: [second, first] }, /got other prompts or categories$/],
    ['category', { prompts: [first, { ...second, category: 'color' }] }, /got other prompts or categories$/],
    ['pictures', { images: 1 }, /got other numbers of pictures$/],
    ['seed', { sampling: { ...job.sampling, seed: 4 } }, /got other seeds or sampling settings$/],
  ];
  for (const [name, changes, expected] of differing) {
    await evaluate({ ...job, ...changes, folder: at(name) });
    await t.rejects(compare(named('base'), named(name)), { code: 'conflict', message: expected }, name);
  }
  await t.rejects(compare(named('base'), { name: 'base', folder: at('seed') }), {
    code: 'invalid',
    message: /evaluations: expected each name once, got "base" twice/,
  });
});

t.test('a score that not all models have is shown for those that have it', async (t) => {
  await evaluate({ ...job, folder: at('plain'), pictures: { ...job.pictures, scorers: [] } });
  const { sections } = await compare(named('plain'), named('base'));
  const tables = sections.flatMap(({ blocks }) =>
    blocks.flatMap((block) => (block.kind === 'table' ? [block.table] : [])),
  );
  t.same(
    tables.map(({ title, rows }) => [title, [...new Set(rows.map(([model]) => model))]]),
    [
      ['mi (nats), mean over pictures', ['plain', 'base']],
      ['width, mean over pictures', ['base']],
      ['base minus plain', ['mi (nats)']],
    ],
  );
  t.notMatch(renderReport({ title: '', summary: '', sections }), /NaN/);
});
