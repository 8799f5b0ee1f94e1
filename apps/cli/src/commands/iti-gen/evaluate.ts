import { readFile } from 'node:fs/promises';
import { basename, resolve } from 'node:path';
import {
  defineOptions,
  invalid,
  type JsonValue,
  option,
  prose,
  sha256File,
  sha256Json,
  z,
} from '@equipoise/core';
import { readPngSettings } from '@equipoise/diffusion';
import {
  type AttributeClassifier,
  type Evaluation,
  evaluateImages,
  givenClassifiers,
  imagesUnder,
  type LabelledFile,
  loadClip,
  type QualityMeasure,
  readClassTexts,
  readImages,
  type Targets,
  zeroShotClassifiers,
} from '@equipoise/iti-gen';
import { writeReport } from '@equipoise/report';
import { loadJudges, SHIPPED_WEIGHTS } from '@equipoise/tiny-world';
import { type CommandContext, defineCommand } from '../../command.js';
import { engineOptions, openEngine } from '../../engine-options.js';
import { writeEvaluation } from '../../iti-gen/evaluation-file.js';
import { openInceptionQuality } from '../../iti-gen/inception-quality.js';
import { evaluationSections } from '../../iti-gen/report-sections.js';
import { inRunFolder } from '../../iti-gen/run-folder.js';
import { categoryShares } from '../../iti-gen/shares.js';
import { judgeClassifiers, judgeQuality } from '../../iti-gen/tiny-world-bench.js';

const folder = { placeholder: 'folder' } as const;

const options = defineOptions(
  'iti-gen evaluate',
  {
    images: option(z.string(), 'Folder of images; those of folders in it count too.', folder),
    out: option(z.string(), 'Run folder for the numbers and the report.', folder),
    name: option(
      z.string().optional(),
      'What to call these images in reports. Default: the name of their folder.',
    ),
    classes: option(
      z.string().optional(),
      'Zero-shot: texts of the categories of each attribute (JSON or YAML).',
      {
        group: 'Who judges (one of three)',
        placeholder: 'file',
      },
    ),
    labels: option(z.string().optional(), 'Verdicts of another classifier (JSON or YAML).', {
      group: 'Who judges (one of three)',
      placeholder: 'file',
    }),
    judge: option(z.enum(['tiny-world']).optional(), "The embedded model's judge, for its pictures.", {
      group: 'Who judges (one of three)',
    }),
    attributes: option(
      z.array(z.string()).default([]),
      'Which attributes; needed with --judge. Default: all that the file names.',
      {
        group: 'Who judges (one of three)',
      },
    ),
    clip: option(
      z.string().optional(),
      'CLIP for zero-shot classes and similarity (published: ViT-B/32).',
      folder,
    ),
    tokenizer: option(z.string().optional(), 'Folder of its tokenizer. Default: the CLIP folder.', folder),
    prompt: option(z.string().optional(), 'Prompt whose similarity to the images is measured.', {
      group: 'What is measured',
    }),
    shares: option(
      z.array(z.string()).default([]),
      'Wanted shares, Attribute=Category=0.3, for the divergence to them; categories not named share the rest evenly.',
      { group: 'What is measured' },
    ),
    inception: option(z.string().optional(), 'Inception weights (safetensors), for FID and KID.', {
      group: 'What is measured',
      placeholder: 'file',
    }),
    realImages: option(z.string().optional(), 'Folder of real images for FID and KID.', {
      group: 'What is measured',
      ...folder,
    }),
    seed: option(z.int().min(0).default(0), 'Seed of the bootstrap.'),
    weights: option(z.string().default(SHIPPED_WEIGHTS), 'Weights of the embedded model.', {
      ...folder,
      hidden: true,
    }),
    ...engineOptions,
  },
  (own, name) => {
    const judges = (['classes', 'labels', 'judge'] as const).filter((key) => own[key] !== undefined);
    if (judges.length !== 1)
      throw invalid(
        name('classes'),
        `exactly one of ${name('classes')}, ${name('labels')}, ${name('judge')}`,
        prose(judges.length === 0 ? 'none' : judges.map((key) => name(key)).join(' and ')),
      );
    if ((own.classes !== undefined || own.prompt !== undefined) && own.clip === undefined)
      throw invalid(
        name('clip'),
        `a folder beside ${own.classes === undefined ? name('prompt') : name('classes')}`,
        prose('none'),
      );
    if ((own.inception === undefined) !== (own.realImages === undefined))
      throw invalid(
        name('inception'),
        `it and ${name('realImages')} together`,
        prose('one without the other'),
      );
    if (own.judge !== undefined && own.attributes.length === 0)
      throw invalid(name('attributes'), 'the attributes that the embedded judge is asked', prose('none'));
  },
);

type Options = ReturnType<typeof options.parse>;

export const itiGenEvaluate = defineCommand({
  options,
  description:
    'Judges images and measures how inclusive they are: a histogram of categories, its divergence to uniform (and to wanted shares) with a bootstrap interval, the share of images that show what they were asked for, Frechet and kernel distance to real images, the diversity of all pictures and within categories, and the similarity to a prompt.\n\nThe judge is CLIP with a text per category, the verdicts of any other program, or the embedded judge. Images made by iti-gen generate carry what they were asked to show. Give several evaluations to iti-gen report to see them side by side.',
  examples: [
    'equipoise iti-gen evaluate --images images/ --clip clip-b32/ --classes classes.yaml --prompt "a headshot of a person" --out runs/after',
    'equipoise iti-gen evaluate --images images/ --judge tiny-world --attributes eyeglasses --out runs/after',
  ],
  async run(given, context) {
    await openEngine(given);
    const files = await imagesUnder(given.images);
    if (files.length === 0)
      throw invalid(given.images, 'at least one image', prose('none'), { code: 'missing' });
    const clip =
      given.clip === undefined ? undefined : await loadClip(given.clip, { tokenizer: given.tokenizer });
    const classifiers = await openClassifiers(given, clip, context);
    const spec = {
      command: 'iti-gen evaluate',
      options: Object.fromEntries(
        Object.entries(given).filter(([key, value]) => value !== undefined && key !== 'out'),
      ) as Record<string, JsonValue>,
      inputs: { images: await hashOf(files), ...(clip && { clip: clip.hash }) },
      argv: context.argv,
    };
    const { report, evaluation, file } = await inRunFolder(given.out, spec, async (run) => {
      const labelled = await withLabels(files);
      const evaluation = await evaluateImages(
        {
          images: await readImages(files),
          files,
          classifiers,
          intended: labelled.map(({ labels }) => labels),
          targets: targetsOf(classifiers, given.shares),
          quality: await openQuality(given, context),
          similarity: clip && given.prompt !== undefined ? { clip, prompt: given.prompt } : null,
          seed: given.seed,
        },
        context,
      );
      const record = {
        name: given.name ?? basename(resolve(given.images)),
        judge: judgeName(given),
        evaluation,
        images: labelled,
      };
      const written = await writeEvaluation(run.folder, record);
      const html = await writeReport(run.folder, {
        title: `Evaluation: ${record.name}`,
        summary: `${files.length} images of ${given.images}, judged by ${record.judge}.`,
        sections: await evaluationSections([record]),
      });
      return { report: html, evaluation, file: written };
    });
    context.print(JSON.stringify({ report, evaluation: file, ...figures(evaluation) }, null, 2));
    return 0;
  },
});

/** What came out, for programs. */
function figures({ images, balance, distances, diversity, similarity }: Evaluation): object {
  return {
    images,
    kl: Object.fromEntries(balance.map(({ attribute, kl }) => [attribute, kl.value])),
    distances: Object.fromEntries(
      distances.map(({ reference, value, kernel }) => [
        reference,
        { frechet: value, kernel: kernel?.value, standardError: kernel?.standardError },
      ]),
    ),
    vendi: diversity?.vendi ?? null,
    similarity: similarity?.cosine.value ?? null,
  };
}

async function openClassifiers(
  { classes, labels, attributes, weights }: Options,
  clip: Awaited<ReturnType<typeof loadClip>> | undefined,
  context: CommandContext,
): Promise<AttributeClassifier[]> {
  if (classes === undefined && labels === undefined)
    return judgeClassifiers(await loadJudges(weights), attributes);
  const source = (classes ?? labels) as string;
  const all =
    classes !== undefined && clip !== undefined
      ? zeroShotClassifiers(clip, await readClassTexts(classes), context)
      : await givenClassifiers(source);
  if (attributes.length === 0) return all;
  return attributes.map((name) => {
    const own = all.find(({ attribute }) => attribute === name);
    if (own === undefined)
      throw invalid('--attributes', `one of ${all.map(({ attribute }) => attribute).join(', ')}`, name);
    return own;
  });
}

function judgeName({ classes, labels, clip }: Options): string {
  if (labels !== undefined) return basename(labels);
  return classes === undefined ? 'the embedded judge' : `CLIP (${basename(resolve(clip ?? ''))}), zero-shot`;
}

async function openQuality(given: Options, context: CommandContext): Promise<QualityMeasure | null> {
  const { inception, realImages, judge, attributes, weights } = given;
  if (inception !== undefined && realImages !== undefined)
    return openInceptionQuality(inception, realImages, context);
  return judge === undefined ? null : judgeQuality(await loadJudges(weights), attributes);
}

/** Only attributes that something was said of. */
function targetsOf(classifiers: readonly AttributeClassifier[], shares: readonly string[]): Targets {
  const said = new Set(shares.map((text) => text.split('=')[0]));
  const classes = classifiers.map(({ attribute, categories }) => ({ name: attribute, categories }));
  const all = categoryShares(classes, shares);
  return Object.fromEntries([...all].filter(([name]) => said.has(name)));
}

/** What each image was asked to show: in PNG files of iti-gen generate, nothing elsewhere. */
async function withLabels(files: readonly string[]): Promise<LabelledFile[]> {
  const labelled: LabelledFile[] = [];
  for (const file of files) {
    const settings = /\.png$/i.test(file) ? readPngSettings(await readFile(file), file) : undefined;
    const inclusive = (settings as { inclusive?: Record<string, string> } | undefined)?.inclusive;
    labelled.push({ file, labels: inclusive ?? {} });
  }
  return labelled;
}

async function hashOf(files: readonly string[]): Promise<string> {
  const hashes: string[] = [];
  for (const file of files) hashes.push(await sha256File(file));
  return sha256Json(hashes);
}
