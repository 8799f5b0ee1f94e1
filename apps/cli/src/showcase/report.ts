/** The showcase's report. */
import type { RgbImage } from '@equipoise/models';
import { type Block, barChart, lineChart, type Report, tableOf } from '@equipoise/report';
import { gridPng } from '@equipoise/tiny-world';
import type { ItiGenResult, ItiGenSettings } from './iti-gen.js';
import type { MiTuneResult, MiTuneSettings } from './mi-tune.js';
import { packed } from './model.js';

async function grid(
  caption: string,
  images: readonly RgbImage[],
  count = 24,
): Promise<{ png: Uint8Array; caption: string }> {
  return { png: await gridPng(packed(images.slice(0, count)), 8, 1), caption };
}

/** Images spread evenly over the list, so that a grid of a sorted list shows all of it. */
function spread<T>(items: readonly T[], count: number): T[] {
  return Array.from(
    { length: Math.min(count, items.length) },
    (_, i) => items[Math.floor((i * items.length) / Math.min(count, items.length))] as T,
  );
}

function divergenceTable({ before, after }: ItiGenResult, images: number): ReturnType<typeof tableOf> {
  return tableOf(
    'KL divergence of categories to uniform, nats (0 is even)',
    before.balance.map((own, i) => ({
      attribute: own.attribute,
      categories: own.categories.length,
      'plain prompt': own.kl.value,
      'inclusive tokens': after.balance[i]?.kl.value ?? null,
      '95 % low': after.balance[i]?.kl.low ?? null,
      '95 % high': after.balance[i]?.kl.high ?? null,
    })),
    `${images} images each, judged by the embedded attribute judge. The estimate is biased upwards by about (categories - 1) / (2 images).`,
  );
}

async function itiGenBlocks(result: ItiGenResult, settings: ItiGenSettings): Promise<Block[]> {
  const { before, after, log, frechet, combinations } = result;
  const quality = tableOf(
    'Pictures',
    [before, after].map(({ name, similarity }) => ({
      images: name,
      'CLIP similarity to the prompt': similarity,
    })),
    `Frechet distance of CLIP features between both sets: ${frechet.toPrecision(3)}.`,
  );
  const plots: Block[] = before.balance.map((own, i) => ({
    kind: 'plot',
    title: own.attribute,
    svg: barChart(
      [before, after].flatMap(({ name, balance }) =>
        own.categories.map((category, k) => ({
          category,
          series: name,
          value: (balance[i]?.counts[k] as number) / settings.images,
        })),
      ),
      { x: 'category', y: 'share', reference: 1 / own.categories.length },
      { width: Math.max(420, own.categories.length * 90) },
    ),
  }));
  const losses = lineChart(
    log.map((step, i) => ({ x: i, y: step.direction, series: step.attribute })),
    { x: 'update', y: 'direction loss' },
  );
  return [
    {
      kind: 'text',
      text: `Tokens for ${combinations} combinations of ${settings.attributes.join(' and ')} were learned from ${settings.learning.references} reference images per category in ${settings.learning.epochs} epochs, under the prompt "${settings.prompt}". No model weight changed.`,
    },
    { kind: 'table', table: divergenceTable(result, settings.images) },
    {
      kind: 'images',
      title: 'Before and after',
      images: [
        await grid('plain prompt', before.images),
        await grid('inclusive tokens, spread over all combinations', spread(after.images, 24)),
      ],
    },
    ...plots,
    { kind: 'table', table: quality },
    { kind: 'plot', title: 'Direction loss while learning', svg: losses },
  ];
}

async function miTuneBlocks(result: MiTuneResult, settings: MiTuneSettings): Promise<Block[]> {
  const right = tableOf(
    settings.suite === 'binding'
      ? 'Two objects, each in its own color'
      : 'One object with its color and shape',
    result.results.map(({ name, right: { value, low, high, count } }) => ({
      model: name,
      'right (share)': value,
      '95 % low': low,
      '95 % high': high,
      pictures: count,
    })),
    'Held-out prompts, judged by the embedded scene judge; the same noise for all three.',
  );
  const choice = tableOf(
    'What mutual information chooses',
    [
      { candidates: 'all', 'right (share)': result.rightAmongAll },
      { candidates: 'best by MI of the finished picture', 'right (share)': result.rightAmongChosen },
      { candidates: 'best by MI summed in the sampling loop', 'right (share)': result.rightAmongLoop },
    ],
    `One candidate of each prompt. Kendall's tau-b with the judge within a prompt: ${result.agreement.toPrecision(3)} of the finished picture, ${result.loopAgreement.toPrecision(3)} in the loop.`,
  );
  const losses = lineChart(
    result.results.flatMap(({ name, log }) =>
      log.map(({ step, loss }) => ({ x: step, y: loss, series: name })),
    ),
    { x: 'update', y: 'loss' },
  );
  return [
    {
      kind: 'text',
      text: `${settings.candidates} candidates for each of ${settings.prompts} prompts were scored by the point-wise mutual information of the finished picture; a DoRA adapter was tuned for ${settings.updates} updates on the best of each, and another on candidates taken at random.`,
    },
    { kind: 'table', table: right },
    { kind: 'table', table: choice },
    {
      kind: 'images',
      title: `Test prompts: ${result.testPrompts
        .slice(0, 3)
        .map(({ text }) => `"${text}"`)
        .join(', ')}, ...`,
      images: await Promise.all(result.results.map(({ name, images }) => grid(name, images))),
    },
    { kind: 'plot', title: 'Loss while tuning', svg: losses },
  ];
}

export async function showcaseReport(
  itiGen: { result: ItiGenResult; settings: ItiGenSettings },
  miTune: { result: MiTuneResult; settings: MiTuneSettings },
): Promise<Report> {
  const [first] = itiGen.result.before.balance;
  const [after] = itiGen.result.after.balance;
  const score = (name: string): number =>
    miTune.result.results.find((r) => r.name === name)?.right.value ?? Number.NaN;
  const percent = (value: number): string => `${(100 * value).toFixed(0)} %`;
  return {
    title: 'Equipoise on its embedded model',
    summary: `Inclusive tokens took the divergence of ${first?.attribute} from uniform from ${first?.kl.value.toPrecision(2)} to ${after?.kl.value.toPrecision(2)} nats; tuning on what mutual information chose took the share of right pictures from ${percent(score('base model'))} to ${percent(score('MI-TUNE'))} (random choice: ${percent(score('random choice'))}).`,
    sections: [
      { title: 'Inclusive: ITI-GEN', blocks: await itiGenBlocks(itiGen.result, itiGen.settings) },
      { title: 'Faithful: MI-TUNE', blocks: await miTuneBlocks(miTune.result, miTune.settings) },
    ],
  };
}
