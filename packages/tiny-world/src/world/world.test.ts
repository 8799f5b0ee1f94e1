import { readdir } from 'node:fs/promises';
import t from 'tap';
import { detectObjects, nameColor, standsIn } from '../judges/detector.js';
import { COLOR_RGB, COLORS, IMAGE_SIZE, SKIN_TONES } from './attributes.js';
import { BIAS } from './bias.js';
import { plural } from './caption.js';
import { writeReferences } from './references.js';
import { IMAGE_BYTES, renderImages } from './render.js';
import { drawSample, drawSamples } from './sample.js';

t.test('samples are functions of seed, split and index', async (t) => {
  const [all, part] = [drawSamples(3, 'train', 40), drawSamples(3, 'train', 10, 30)];
  t.same(part, all.slice(30));
  t.not(
    drawSample(3, 'test', 0).caption + drawSample(3, 'test', 1).caption,
    all[0]!.caption + all[1]!.caption,
  );
  const images = await renderImages(all);
  t.equal(images.length, 40 * IMAGE_BYTES);
  const again = await renderImages(part);
  const last = images.subarray(30 * IMAGE_BYTES);
  const largest = again.reduce(
    (most, value, index) => Math.max(most, Math.abs(value - (last[index] as number))),
    0,
  );
  t.ok(largest <= 2, `a place in the atlas moves a color by rounding only: ${largest}`);
  t.same(await renderImages(part), again);
});

t.test('captions never negate', (t) => {
  const negation = /\b(no|not|without|never|neither|lacking|isn't)\b/i;
  t.same(
    drawSamples(1, 'train', 3000).filter(({ caption }) => negation.test(caption)),
    [],
  );
  t.end();
});

t.test('frequencies follow the bias table', (t) => {
  const samples = drawSamples(1, 'train', 8000);
  const faces = samples.flatMap(({ labels }) => (labels.kind === 'headshot' ? [labels] : []));
  const close = (actual: number, wanted: number, label: string): void => {
    const deviation = Math.sqrt((wanted * (1 - wanted)) / faces.length);
    t.ok(Math.abs(actual - wanted) < 4 * deviation, `${label}: ${actual} for ${wanted}`);
  };
  close(faces.length / samples.length, BIAS.headshotShare, 'headshots');
  const total = Object.values(BIAS.skinTone).reduce((a, b) => a + b, 0);
  for (const tone of SKIN_TONES) {
    close(
      faces.filter((face) => face.skinTone === tone).length / faces.length,
      BIAS.skinTone[tone] / total,
      tone,
    );
  }
  for (const name of ['eyeglasses', 'hat', 'beard', 'smile'] as const) {
    close(faces.filter((face) => face[name]).length / faces.length, BIAS[name], name);
  }
  t.end();
});

t.test('scenes keep to the picture, and to what their captions say', (t) => {
  const broken = drawSamples(5, 'train', 1500, 0, { kind: 'scene' }).filter(({ labels, caption }) => {
    if (labels.kind !== 'scene') return true;
    const inside = labels.objects.every(
      ({ x, y, radius }) =>
        Math.min(x, y) - radius >= 0 && Math.max(x, y) + radius <= IMAGE_SIZE && radius >= 8,
    );
    const shapes = [...new Set(labels.objects.map((object) => object.shape))];
    const said = shapes.every((shape) => caption.includes(shape) || caption.includes(plural(shape)));
    const distinct = shapes.length === (labels.category === 'count' ? 1 : labels.objects.length);
    const [first, second] = labels.objects;
    const related = !labels.relation || !first || !second || standsIn(labels.relation, first, second);
    return !(inside && said && distinct && related);
  });
  t.same(broken, []);
  t.end();
});

t.test('requests fix parts of a sample', (t) => {
  const { labels } = drawSample(1, 'reference', 0, {
    kind: 'headshot',
    headshot: { eyeglasses: true, skinTone: 'dark' },
  });
  t.match(labels, { kind: 'headshot', eyeglasses: true, skinTone: 'dark' });
  const objects = [
    { shape: 'star', color: 'green' },
    { shape: 'heart', color: 'blue' },
  ] as const;
  const scene = drawSample(1, 'reference', 1, { kind: 'scene', scene: { category: 'color', objects } });
  t.match(scene.labels, { objects });
  t.end();
});

t.test('the detector names every palette color and finds what was drawn', async (t) => {
  for (const color of COLORS) t.equal(nameColor(...COLOR_RGB[color]), color);
  const samples = drawSamples(9, 'test', 400, 0, { kind: 'scene' });
  const images = await renderImages(samples);
  let [right, placed, objects] = [0, 0, 0];
  samples.forEach(({ labels }, index) => {
    if (labels.kind !== 'scene') return;
    const found = detectObjects(images.subarray(index * IMAGE_BYTES, (index + 1) * IMAGE_BYTES));
    const colors = (list: readonly { color: string }[]): string =>
      list
        .map(({ color }) => color)
        .sort()
        .join();
    if (colors(found) === colors(labels.objects)) right++;
    for (const { color, x, y, radius } of labels.objects) {
      objects++;
      if (found.some((one) => one.color === color && Math.hypot(one.x - x, one.y - y) < radius / 2)) placed++;
    }
  });
  t.ok(right / samples.length >= 0.99, `colors of ${right} of ${samples.length} scenes`);
  t.ok(placed / objects >= 0.99, `places of ${placed} of ${objects} objects`);
});

t.test('reference images lie in the layout of the method that reads them', async (t) => {
  const folder = t.testdir({});
  await writeReferences(folder, ['eyeglasses', 'skinTone'], { seed: 1, perCategory: 2 });
  t.same((await readdir(`${folder}/eyeglasses`)).sort(), ['negative', 'positive']);
  t.same((await readdir(`${folder}/skinTone`)).sort(), [...SKIN_TONES].sort());
  t.same((await readdir(`${folder}/skinTone/tan`)).sort(), ['000.png', '001.png']);
});
