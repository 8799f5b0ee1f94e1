/** What is counted and compared: prompts, shares, judges, balances, directions, grids. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { useEngine } from '@equipoise/backend';
import { featureStatistics, frechetDistance, kernelDistance, type Rows } from '@equipoise/metrics';
import type { RgbImage } from '@equipoise/models';
import t from 'tap';
import {
  apportion,
  balance,
  clipImageFeatures,
  evaluateImages,
  findAttributes,
  givenClassifiers,
  gridImage,
  imagesUnder,
  inclusiveTextFeatures,
  labelledHistogram,
  pairCosines,
  planImages,
  qualityReference,
  readClassTexts,
  readImages,
  readWording,
  TRAIN_DEFAULTS,
  trainJob,
  type Wording,
  wordedPrompts,
  zeroShotClassifiers,
} from './index.js';
import { loadFixture, writeFixtureReferences } from './testing/clip-fixture.js';

const WORDS: Wording = {
  Glasses: { no: { without: 'glasses' }, yes: { with: 'glasses' } },
  Age: { old: { before: 'old' }, young: { before: 'young' } },
  Skin: { dark: { with: 'dark skin' }, pale: { with: 'pale skin' } },
};
const classes = (...names: string[]) =>
  names.map((name) => ({ name, categories: Object.keys(WORDS[name] ?? {}) }));

t.test('hard prompts leave absences unsaid, negated ones say "without"', (t) => {
  const prompts = (kind: 'hard' | 'negated', ...names: string[]) =>
    wordedPrompts('a photo of a person', WORDS, classes(...names), kind);
  t.same(prompts('hard', 'Glasses'), ['a photo of a person', 'a photo of a person with glasses']);
  t.same(prompts('negated', 'Glasses')[0], 'a photo of a person without glasses');
  t.same(prompts('hard', 'Age'), ['a photo of an old person', 'a photo of a young person']);
  t.same(prompts('negated', 'Age', 'Skin', 'Glasses'), [
    'a photo of an old person with dark skin without glasses',
    'a photo of an old person with dark skin and glasses',
    'a photo of an old person with pale skin without glasses',
    'a photo of an old person with pale skin and glasses',
    'a photo of a young person with dark skin without glasses',
    'a photo of a young person with dark skin and glasses',
    'a photo of a young person with pale skin without glasses',
    'a photo of a young person with pale skin and glasses',
  ]);
  t.throws(
    () => wordedPrompts('a', WORDS, [{ name: 'Hat', categories: ['no', 'yes'] }], 'hard'),
    /words for Hat: no, got none/,
  );
  t.end();
});

t.test('words and class texts from files', async (t) => {
  const folder = t.testdir({
    'words.yaml': 'Glasses:\n  no: { without: glasses }\n  yes: { with: glasses }\n',
    'classes.json': '{"Age": {"old": "an old person", "young": "a young person"}}',
    'bad.yaml': 'Glasses:\n  no: { beside: glasses }\n',
    'one.yaml': 'Age:\n  old: an old person\n',
    'list.yaml': '- a\n',
  });
  t.same(Object.keys((await readWording(join(folder, 'words.yaml'))).Glasses ?? {}), ['no', 'yes']);
  t.same(await readClassTexts(join(folder, 'classes.json')), {
    Age: { old: 'an old person', young: 'a young person' },
  });
  await t.rejects(readWording(join(folder, 'bad.yaml')), {
    message: /Glasses\.no: expected "with", "before" or "without", got "beside"/,
  });
  await t.rejects(readClassTexts(join(folder, 'one.yaml')), {
    message: /Age: expected a mapping from at least two/,
  });
  await t.rejects(readClassTexts(join(folder, 'list.yaml')), { message: /expected a mapping/ });
  await t.rejects(readWording(join(folder, 'gone.yaml')), { code: 'missing' });
});

t.test('images are shared out exactly, and named by what they show', (t) => {
  t.same(apportion(10, [1, 1, 1]), [4, 3, 3]);
  t.same(apportion(5, [0.5, 0.3, 0.2]), [3, 1, 1]);
  t.same(apportion(7, [0, 1]), [0, 7]);
  t.throws(() => apportion(7, [0, 0]), /shares: expected non-negative numbers, not all zero/);
  const combinations = [{ Age: 'old' }, { Age: 'young' }].map((labels, i) => ({ indices: [i], labels }));
  const job = { folder: 'out', count: 3, seed: 40, prompts: { combinations } } as never;
  t.same(
    planImages(job).map(({ file, seed }) => [file, seed]),
    [
      [join('out', 'Age_old', '00000.png'), 40],
      [join('out', 'Age_old', '00001.png'), 41],
      [join('out', 'Age_young', '00000.png'), 40],
    ],
  );
  t.same(
    planImages({ ...(job as object), noise: 'own' } as never).map(({ seed }) => seed),
    [40, 41, 42],
  );
  const scripts = [{ Âge: '年轻' }, { Âge: '年老' }].map((labels, i) => ({ indices: [i], labels }));
  t.same(
    planImages({ ...(job as object), count: 2, prompts: { combinations: scripts } } as never).map(
      ({ file }) => file,
    ),
    [join('out', 'Âge_年轻', '00000.png'), join('out', 'Âge_年老', '00000.png')],
  );
  const clash = [{ Age: 'a b' }, { Age: 'a/b' }].map((labels, i) => ({ indices: [i], labels }));
  t.throws(
    () => planImages({ ...(job as object), prompts: { combinations: clash } } as never),
    /names that differ as folders/,
  );
  t.end();
});

t.test('balances: each attribute, all combined, and wanted shares', (t) => {
  const judges = [
    { attribute: 'Age', categories: ['old', 'young'] },
    { attribute: 'Hat', categories: ['no', 'yes'] },
  ];
  const [age, hat, both] = balance(judges, [
    [0, 0, 0, 1],
    [0, 1, 0, 1],
  ]);
  t.same(
    [age?.counts, hat?.counts, both?.counts],
    [
      [3, 1],
      [2, 2],
      [2, 1, 0, 1],
    ],
  );
  t.same(both?.categories, ['old no', 'old yes', 'young no', 'young yes']);
  t.equal(both?.attribute, 'Age x Hat');
  t.equal(hat?.kl.value, 0);
  t.ok(Math.abs((age?.kl.value as number) - (0.75 * Math.log(1.5) + 0.25 * Math.log(0.5))) < 1e-12);
  t.equal(age?.target, undefined, 'no target, no divergence to it');
  const wanted = balance(
    judges,
    [
      [0, 0, 0, 1],
      [0, 1, 0, 1],
    ],
    0,
    { Age: [3, 1] },
  );
  t.equal(wanted[0]?.target?.kl.value, 0);
  t.same(wanted[2]?.target?.shares, [0.375, 0.375, 0.125, 0.125], 'attributes are wanted independently');
  t.throws(() => balance(judges, [[0], [0]], 0, { Age: [1] }), /shares of Age: expected 2 numbers/);
  t.end();
});

t.test('cosines of directions', (t) => {
  // Two attributes with two categories each; the first moves along x, the second along y.
  const text: Rows = { count: 4, width: 2, data: [0, 0, 0, 1, 1, 0, 1, 1] };
  const along = pairCosines(text, [2, 2], 0, Float32Array.of(0, 5, 3, 5));
  t.same(along, [{ pair: [0, 1], cosine: 1 }]);
  const diagonal = pairCosines(text, [2, 2], 1, Float32Array.of(0, 0, 1, 1));
  t.ok(Math.abs((diagonal[0]?.cosine as number) - Math.SQRT1_2) < 1e-12);
  const still: Rows = { count: 2, width: 2, data: [1, 0, 1, 0] };
  t.ok(Number.isNaN(pairCosines(still, [2], 0, Float32Array.of(0, 0, 1, 1))[0]?.cosine as number));
  t.same(
    pairCosines({ count: 3, width: 1, data: [0, 1, 3] }, [3], 0, Float32Array.of(0, 1, -1)).map(
      ({ pair, cosine }) => [...pair, cosine],
    ),
    [
      [0, 1, 1],
      [0, 2, -1],
      [1, 2, -1],
    ],
    'all pairs',
  );
  t.end();
});

t.test('judges: zero-shot CLIP, and verdicts from a file', async (t) => {
  await useEngine('equipoise-cpu');
  const clip = await loadFixture();
  const folder = t.testdir();
  await writeFixtureReferences(folder, { Tone: { dark: 3, light: 3 } });
  const files = await imagesUnder(folder);
  t.equal(files.length, 6);
  const images = await readImages(files);
  const judges = zeroShotClassifiers(clip, {
    Tone: { one: 'a', two: 'b c' },
    Kind: { x: 'd', y: 'a', z: 'e f' },
  });
  const rows = await clipImageFeatures(clip, images);
  const first = Array.from({ length: rows.width }, (_, d) => rows.data[d] as number);
  t.ok(
    Math.abs(first.reduce((sum, value) => sum + value * value, 0) - 1) < 1e-5,
    'features have unit length',
  );
  for (const judge of judges) {
    const labels = await judge.classify(images, files);
    t.equal(labels.length, 6);
    t.ok(labels.every((label) => label >= 0 && label < judge.categories.length));
  }
  t.throws(() => zeroShotClassifiers(clip, { Tone: { one: 'a' } }), /classes of Tone: expected at least two/);

  const verdicts = join(folder, 'labels.json');
  const entry = (name: string, tone: string): [string, object] => [name, { Tone: tone }];
  await writeFile(
    verdicts,
    JSON.stringify({
      attributes: { Tone: ['dark', 'light'] },
      images: Object.fromEntries(
        files.map((file) => entry(file.slice(folder.length + 1), file.includes('dark') ? 'dark' : 'light')),
      ),
    }),
  );
  const [given] = await givenClassifiers(verdicts);
  const evaluation = await evaluateImages({
    images,
    files,
    classifiers: [given!],
    intended: files.map((_, i) => ({ Tone: i < 4 ? 'dark' : 'light' })),
    similarity: { clip, prompt: 'a b' },
    quality: {
      name: 'colour',
      features: async (own: readonly RgbImage[]) => ({
        count: own.length,
        width: 1,
        data: own.map(({ data }) => data[0] as number),
      }),
      references: {
        itself: qualityReference({ count: 9, width: 1, data: [50, 60, 70, 80, 90, 100, 110, 120, 130] }),
      },
    },
    seed: 3,
  });
  t.equal(evaluation.images, 6);
  t.same(evaluation.balance[0]?.counts, [3, 3]);
  t.equal(evaluation.balance[0]?.kl.value, 0);
  t.equal(evaluation.accuracy[0]?.share.value, 5 / 6, 'one dark picture was to be light');
  const real = [50, 60, 70, 80, 90, 100, 110, 120, 130];
  const own = images.map(({ data }) => data[0] as number);
  const columnOf = (data: readonly number[]) => ({ count: data.length, width: 1, data });
  t.same(evaluation.distances, [
    {
      features: 'colour',
      reference: 'itself',
      referenceImages: 9,
      value: frechetDistance(featureStatistics(columnOf(own)), featureStatistics(columnOf(real))),
      kernel: kernelDistance(columnOf(own), columnOf(real), { seed: 3 }),
    },
  ]);
  // In one dimension all pictures point the same way.
  t.match(evaluation.diversity, { features: 'colour' });
  const vendi = [evaluation.diversity?.vendi, ...(evaluation.balance[0]?.vendi ?? [])];
  t.ok(vendi.length === 3 && vendi.every((score) => Math.abs((score as number) - 1) < 1e-9), `${vendi}`);
  const cosine = evaluation.similarity?.cosine.value as number;
  t.ok(cosine > -1 && cosine < 1);
  await t.rejects(given!.classify(images, ['elsewhere.png']), {
    code: 'missing',
    message: /a verdict for elsewhere\.png/,
  });
  const one = { images: images.slice(0, 1), files: files.slice(0, 1), classifiers: [given!], seed: 0 };
  const quality = { name: 'judge', features: () => t.fail('nothing is measured') as never, references: {} };
  await t.rejects(evaluateImages({ ...one, quality }), { message: /images: expected at least 2, .*, got 1/ });
  await t.rejects(evaluateImages({ images: [], files: [], classifiers: [given!], seed: 0 }), {
    message: /images: expected at least one/,
  });
  await writeFile(verdicts, JSON.stringify({ attributes: { Tone: ['dark'] }, images: {} }));
  await t.rejects(givenClassifiers(verdicts), { message: /attributes\.Tone: expected at least two names/ });
});

t.test('diversity within categories', (t) => {
  const [first, second] = balance(
    [
      { attribute: 'Tone', categories: ['dark', 'mid', 'light'] },
      { attribute: 'Hat', categories: ['none', 'cap'] },
    ],
    [
      [0, 0, 2, 2],
      [0, 1, 1, 1],
    ],
    0,
    {},
    { count: 4, width: 2, data: [1, 0, 0, 3, 2, 2, 1, 1] },
  );
  t.same(
    first?.vendi?.map((score) => score && Math.round(score * 1e9) / 1e9),
    [2, null, 1],
  );
  t.equal(second?.vendi?.[0], 1, 'one picture');
  t.end();
});

t.test('learned prompts point where the images do', async (t) => {
  await useEngine('equipoise-cpu');
  const clip = await loadFixture();
  const folder = t.testdir();
  await mkdir(join(folder, 'data'), { recursive: true });
  await writeFixtureReferences(join(folder, 'data'), { Tone: { dark: 8, light: 8 } });
  const options = {
    ...TRAIN_DEFAULTS,
    prompt: 'a b c',
    references: 8,
    saveEvery: 20,
    epochs: 20,
    updatesPerEpoch: 1,
  };
  const { tokens, log } = await trainJob({
    folder: join(folder, 'run'),
    clip,
    attributes: await findAttributes(join(folder, 'data'), []),
    options,
  });
  const { inclusive, plain } = await inclusiveTextFeatures(tokens, clip);
  t.same([inclusive.count, plain.count], [2, 1]);
  const images = await imagesUnder(join(folder, 'data'));
  const rows = await clipImageFeatures(clip, await readImages(images));
  const means = new Float32Array(2 * rows.width);
  for (let i = 0; i < 16; i++)
    for (let d = 0; d < rows.width; d++)
      means[(i < 8 ? 0 : rows.width) + d]! += (rows.data[i * rows.width + d] as number) / 8;
  const [pair] = pairCosines(inclusive, [2], 0, means);
  // The log's last cosine is from before the last update.
  t.ok(Math.abs((pair?.cosine as number) - (log.at(-1)?.pairCosine[0] as number)) < 0.05);
  t.ok((pair?.cosine as number) > 0.5, `cosine ${pair?.cosine}`);
});

t.test('grids and histograms', (t) => {
  const picture = (width: number, height: number, value: number): RgbImage => ({
    width,
    height,
    data: new Uint8Array(width * height * 3).fill(value),
  });
  const grid = gridImage([picture(2, 2, 10), picture(2, 2, 20), picture(2, 1, 30)], 2);
  t.same([grid.width, grid.height], [4, 4]);
  const at = (x: number, y: number): number => grid.data[(y * 4 + x) * 3] as number;
  t.same([at(0, 0), at(2, 1), at(0, 2), at(0, 3), at(3, 3)], [10, 20, 30, 255, 255]);
  const large = gridImage([picture(512, 256, 7)], 8);
  t.same([large.width, large.height], [128, 64], 'large pictures are shrunk');
  const [own] = balance([{ attribute: 'Age', categories: ['old', 'young'] }], [[0, 0, 1]]);
  const block = labelledHistogram('Age', [
    { name: 'before', balances: [own!] },
    { name: 'after', balances: [] },
  ]);
  t.match(block, { kind: 'plot', title: 'Age: shares of categories', svg: /<svg/ });
  t.end();
});
