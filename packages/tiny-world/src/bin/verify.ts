/** `tiny-world:verify`: measures weights again and compares with their card; `--update` writes the card. */
import { mkdir, readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { ENGINES, useEngine } from '@equipoise/backend';
import {
  defineOptions,
  EquipoiseError,
  exists,
  type JsonValue,
  option,
  parseJson,
  readCommandLine,
  writeFileAtomic,
  writeJsonAtomic,
  z,
} from '@equipoise/core';
import { gridPng } from '../data/pictures.js';
import { generate } from '../model/generate.js';
import { loadJudges, loadTinyClip, loadTinyModel, SHIPPED_WEIGHTS } from '../model/load.js';
import { CURVES, TRAINING_RECORD, type TrainingRecord } from '../train/export.js';
import { modelCard } from '../verify/card.js';
import { type Measurements, type MeasureOptions, measure } from '../verify/measure.js';
import { differences, type Requirement, requirements } from '../verify/requirements.js';
import { sampleGrids } from '../verify/samples.js';
import { progressPrinter, runMain } from './terminal.js';

const MEASURED = 'measured.json';
const PICTURES = 'samples';

const OPTIONS = defineOptions('tiny-world:verify', {
  weights: option(z.string().default(SHIPPED_WEIGHTS), 'Model folder; by default the shipped one.'),
  data: option(z.string().default('.cache/tiny-world'), 'Folder for rendered pictures.'),
  engine: option(z.enum(ENGINES).default('equipoise-cpu'), 'What computes.'),
  count: option(
    z.int().min(8).max(4096).optional(),
    'Pictures of each suite. Default: as on the card, else 128.',
  ),
  seed: option(z.int().min(0).optional(), 'Seed of prompts and noise. Default: as on the card, else 7.'),
  steps: option(z.int().min(1).max(1000).optional(), 'Denoising steps. Default: as on the card, else 25.'),
  guidance: option(z.number().min(0).max(50).optional(), 'Guidance scale. Default: as on the card, else 4.'),
  update: option(
    z.boolean().default(false),
    "Write the measurements, the sample grids and the card into the model's folder.",
  ),
});

/** Settings where neither the command line nor a card says. */
const FALLBACK: Measurements['settings'] = { count: 128, seed: 7, steps: 25, guidance: 4 };

/** The settings that the command line gave. */
function given(
  options: { [K in keyof Measurements['settings']]?: number | undefined },
): Partial<Measurements['settings']> {
  const { count, seed, steps, guidance } = options;
  return Object.fromEntries(
    Object.entries({ count, seed, steps, guidance }).filter(([, value]) => value !== undefined),
  );
}

async function readMeasurements(path: string): Promise<Measurements> {
  return parseJson(await readFile(path, 'utf8'), path) as unknown as Measurements;
}

async function main(): Promise<void> {
  const asked = readCommandLine(OPTIONS, process.argv.slice(2));
  if (asked === undefined) return;
  const { engine, update, ...rest } = asked;
  await useEngine(engine);
  const path = join(rest.weights, MEASURED);
  const card = (await exists(path)) ? await readMeasurements(path) : undefined;
  const settings = { ...(card?.settings ?? FALLBACK), ...given(rest) };
  const options: MeasureOptions = {
    ...settings,
    weights: rest.weights,
    data: rest.data,
    onProgress: progressPrinter(),
  };
  const measured = await measure(options);
  const checks = requirements(measured);
  for (const [name, value] of Object.entries(measured.scores))
    console.log(`${name.padEnd(48)} ${value.toFixed(4)}`);
  for (const [name, { shares, klToUniform }] of Object.entries(measured.headshots)) {
    console.log(`${name.padEnd(14)} KL ${klToUniform.toFixed(4)}  ${JSON.stringify(shares)}`);
  }
  printRequirements(checks);
  if (update) await writeCard(options, measured, checks);
  else await compareWithCard(options, measured);
  if (checks.some((check) => !check.met)) process.exitCode = 1;
}

function printRequirements(checks: readonly Requirement[]): void {
  for (const { name, actual, least, most, met } of checks) {
    const range = most === Number.POSITIVE_INFINITY ? `>= ${least}` : `${least}..${most}`;
    console.log(`${met ? 'met   ' : 'UNMET '} ${name}: ${actual.toFixed(4)} (${range})`);
  }
}

async function compareWithCard(options: MeasureOptions, measured: Measurements): Promise<void> {
  const path = join(options.weights, MEASURED);
  if (!(await exists(path))) {
    throw new EquipoiseError('missing', `${path}: expected the card's measurements`, {
      hints: ['Write them with --update.'],
    });
  }
  const before = await readMeasurements(path);
  const changed = differences(before, measured);
  for (const line of changed) console.log(`DIFFERS ${line}`);
  if (changed.length > 0) process.exitCode = 1;
  else console.log('agrees with the card');
}

async function writeCard(
  options: MeasureOptions,
  measured: Measurements,
  checks: readonly Requirement[],
): Promise<void> {
  const { weights, seed, steps, guidance } = options;
  const model = await loadTinyModel(weights);
  const [clip, judges] = [await loadTinyClip(weights), await loadJudges(weights)];
  const grids = sampleGrids(seed);
  await mkdir(join(weights, PICTURES), { recursive: true });
  for (const { name, prompts } of grids) {
    const images = await generate(model, prompts, { seed, steps, guidance });
    await writeFileAtomic(join(weights, PICTURES, `${name}.png`), await gridPng(images, 8));
  }
  const parameters = {
    UNet: model.parts.unet.parameterCount,
    autoencoder: model.parts.vae.parameterCount,
    'text encoder': model.parts.textEncoder.parameterCount,
    'CLIP (text tower again, vision tower)': clip.parameterCount,
    judges: judges.scene.parameterCount + judges.headshot.parameterCount,
  };
  const path = join(weights, TRAINING_RECORD);
  const training = parseJson(await readFile(path, 'utf8'), path) as unknown as TrainingRecord;
  const facts = {
    training,
    weightBytes: await weightBytes(weights),
    parameters,
    curves: (await readdir(join(weights, CURVES))).sort().map((name) => `${CURVES}/${name}`),
    grids,
    pictures: PICTURES,
  };
  await writeJsonAtomic(join(weights, MEASURED), measured as unknown as JsonValue);
  await writeFileAtomic(join(weights, 'README.md'), modelCard(measured, checks, facts));
}

async function weightBytes(folder: string): Promise<number> {
  const names = await readdir(folder, { recursive: true });
  const files = names.filter((name) => name.endsWith('.safetensors')).map((name) => stat(join(folder, name)));
  return (await Promise.all(files)).reduce((sum, { size }) => sum + size, 0);
}

await runMain(main);
