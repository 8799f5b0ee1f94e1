import { basename, join } from 'node:path';
import {
  defineOptions,
  invalid,
  type JobContext,
  option,
  type ProgressListener,
  writeFileAtomic,
  writeJsonAtomic,
  z,
} from '@equipoise/core';
import { encodePng } from '@equipoise/diffusion';
import {
  ESTIMATORS,
  type EstimateOptions,
  encoderOf,
  estimateMi,
  heatMap,
  largestMagnitude,
  type MiEstimate,
  WEIGHTINGS,
} from '@equipoise/mi-tune';
import { decodeImage, type RgbImage } from '@equipoise/models';
import {
  lineChart,
  type Report,
  type ReportImage,
  type Table,
  tableOf,
  writeReport,
} from '@equipoise/report';
import { defineCommand } from '../../command.js';
import { engineOptions, openEngine } from '../../engine-options.js';
import {
  adapterOption,
  modelOptions,
  noteTruncated,
  type OpenModel,
  openModel,
} from '../../mi-tune/model.js';

const { model } = modelOptions;
const options = defineOptions(
  'mi estimate',
  {
    images: option(z.array(z.string()).min(1), 'Image files, of the size the model draws.'),
    model,
    prompt: option(z.array(z.string().min(1)).min(1), 'Prompts; every image is scored under each.', {
      whole: true,
    }),
    ...adapterOption,
    estimator: option(
      z.enum(ESTIMATORS).default('orthogonal'),
      'Form of a term: squared difference of the predictions, as published, or difference of their squared errors.',
    ),
    replicates: option(
      z.int().min(2).default(4),
      'Independent estimates; their spread gives the standard error.',
    ),
    strata: option(
      z.int().min(1).default(16),
      'Parts into which the timesteps are split, with one draw in each.',
    ),
    antithetic: option(z.boolean().default(true), 'Use every noise with both signs.'),
    weighting: option(z.enum(WEIGHTINGS).default('paper'), 'Weight of a timestep.'),
    truncation: option(z.int().min(0).max(998).default(50), 'Timesteps at or below it do not count.'),
    seed: option(z.int().min(0).default(0), 'Seed of timesteps and noise.'),
    batch: option(z.int().min(1).default(16), 'Noisy latents in one forward.'),
    curve: option(z.boolean().default(false), 'Also give the mean term per timestep.', { group: 'Results' }),
    maps: option(
      z.boolean().default(false),
      'Also draw where in the images the information lies. Needs --out.',
      {
        group: 'Results',
      },
    ),
    out: option(
      z.string().optional(),
      'Folder for report.html, the matrix as CSV, and with --curve and --maps the curves and heat maps.',
      { placeholder: 'folder', group: 'Results' },
    ),
    ...engineOptions,
  },
  ({ maps, out }, name) => {
    if (maps && out === undefined) throw invalid(name('maps'), 'nothing without --out', maps);
  },
);

interface Scored {
  readonly file: string;
  readonly image: RgbImage;
  /** By prompt. */
  readonly estimates: readonly MiEstimate[];
}

export const miEstimate = defineCommand({
  options,
  positionals: ['images'],
  description:
    'Estimates the point-wise mutual information between existing images and prompts, in nats, with standard errors: a matrix of images times prompts, all under the same noise.',
  examples: [
    'equipoise mi estimate cat.png dog.png --model sd/ --prompt "a cat" --prompt "a dog"',
    'equipoise mi estimate cat.png --model sd/ --prompt "a cat on a mat" --maps --curve --out runs/estimate',
  ],
  async run(
    { images, model: folder, adapter, prompt, curve, maps, out, engine, precision, ...settings },
    context,
  ) {
    await openEngine({ engine, precision });
    const opened = await openModel({ model: folder, adapter }, context);
    noteTruncated(prompt, opened, context.note);
    const scored = await scoreImages(opened, images, prompt, { ...settings, maps }, context);
    const results = (curves: boolean): object[] =>
      scored.flatMap(({ file, estimates }) =>
        estimates.map(({ curve: terms, map: _, ...numbers }, p) => ({
          image: file,
          prompt: prompt[p],
          ...numbers,
          ...(curves && { curve: terms }),
        })),
      );
    if (out !== undefined) await writeResults(out, scored, prompt, { curve, maps, results: results(curve) });
    // Curves are long: where there is a folder they are in its files.
    context.print(JSON.stringify(results(curve && out === undefined), null, 2));
    return 0;
  },
});

async function scoreImages(
  { parts, pipeline }: OpenModel,
  files: readonly string[],
  prompts: readonly string[],
  settings: EstimateOptions,
  context: JobContext,
): Promise<Scored[]> {
  const encode = encoderOf(pipeline, parts);
  const scored: Scored[] = [];
  for (const [i, file] of files.entries()) {
    const image = await decodeImage(file);
    const latents = encode(image, file);
    const onProgress: ProgressListener = (event) =>
      context.onProgress?.({ ...event, task: `${event.task}, image ${i + 1} of ${files.length}` });
    try {
      const [estimates = []] = await estimateMi(parts, latents, prompts, settings, {
        ...context,
        onProgress,
      });
      scored.push({ file, image, estimates });
    } finally {
      latents.dispose();
    }
  }
  return scored;
}

async function writeResults(
  out: string,
  scored: readonly Scored[],
  prompts: readonly string[],
  { curve, maps, results }: { curve: boolean; maps: boolean; results: readonly object[] },
): Promise<void> {
  await writeJsonAtomic(join(out, 'estimates.json'), results as never);
  const report: Report = {
    title: 'Mutual information of images and prompts',
    summary: `${scored.length} images under ${prompts.length} prompts, in nats.`,
    sections: [
      { title: 'Matrix', blocks: matrixTables(scored, prompts).map((table) => ({ kind: 'table', table })) },
      ...(curve ? [{ title: 'Per timestep', blocks: curveBlocks(scored, prompts) }] : []),
      ...(maps ? [{ title: 'Where', blocks: await mapBlocks(out, scored, prompts) }] : []),
    ],
  };
  await writeReport(out, report);
}

/** Images down, prompts across: the estimates, and their standard errors. */
function matrixTables(scored: readonly Scored[], prompts: readonly string[]): Table[] {
  const matrix = (title: string, value: (estimate: MiEstimate) => number): Table => ({
    title,
    columns: ['image', ...prompts],
    rows: scored.map(({ file, estimates }) => [file, ...estimates.map(value)]),
  });
  return [
    matrix('mutual information, nats', ({ mi }) => mi),
    matrix('standard error', ({ standardError }) => standardError),
  ];
}

function curveBlocks(
  scored: readonly Scored[],
  prompts: readonly string[],
): Report['sections'][number]['blocks'] {
  const table = tableOf(
    'curves',
    scored.flatMap(({ file, estimates }) =>
      estimates.flatMap(({ curve }, p) =>
        curve.map(({ timestep, value }) => ({
          image: file,
          prompt: prompts[p] as string,
          timestep,
          nats: value,
        })),
      ),
    ),
    'Mean weighted term at each timestep that was drawn.',
  );
  const plots = scored.map(({ file, estimates }) => ({
    kind: 'plot' as const,
    title: basename(file),
    svg: lineChart(
      estimates.flatMap(({ curve }, p) =>
        curve.map(({ timestep, value }) => ({ x: timestep, y: value, series: prompts[p] as string })),
      ),
      { x: 'timestep', y: 'nats' },
    ),
  }));
  return [...plots, { kind: 'table', table }];
}

/** One scale for all maps of an image, so that prompts compare. */
async function mapBlocks(
  out: string,
  scored: readonly Scored[],
  prompts: readonly string[],
): Promise<Report['sections'][number]['blocks']> {
  const blocks = [];
  for (const [i, { file, image, estimates }] of scored.entries()) {
    const largest = Math.max(
      ...estimates.flatMap(({ map }) => (map === undefined ? [] : largestMagnitude(map.values))),
    );
    const images: ReportImage[] = [];
    for (const [p, { map }] of estimates.entries()) {
      if (map === undefined) continue;
      for (const [kind, over] of [
        ['heat', undefined],
        ['over', image],
      ] as const) {
        const png = await encodePng(heatMap(map, image, { largest, ...(over !== undefined && { over }) }));
        const name = `${String(i).padStart(3, '0')}-${basename(file).replace(/\.[^.]*$/, '')}-${String(p).padStart(3, '0')}-${kind}.png`;
        await writeFileAtomic(join(out, 'maps', name), png);
        if (over !== undefined) images.push({ png, caption: prompts[p] as string });
      }
    }
    blocks.push({
      kind: 'images' as const,
      title: `${basename(file)}: white is ${largest.toPrecision(3)} nats, blue below 0`,
      images,
    });
  }
  return blocks;
}
