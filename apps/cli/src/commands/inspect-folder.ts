/** `equipoise inspect` on a folder: a pipeline, a model or an adapter. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { EquipoiseError, prose, throwIfCancelled } from '@equipoise/core';
import { parseSchedulerConfig } from '@equipoise/diffusion';
import {
  AutoencoderKL,
  CLIPModel,
  CLIPTextModel,
  CLIPTextModelWithProjection,
  CLIPVisionModel,
  CLIPVisionModelWithProjection,
  ClipTokenizer,
  type Model,
  UNet2DConditionModel,
} from '@equipoise/models';
import {
  type ComponentFolder,
  DIFFUSERS_ADAPTER,
  type ModelFolder,
  openFolder,
  PEFT_ADAPTER,
  summarizeTensors,
} from '@equipoise/weights';
import { adapterText, describeAdapter, familyOf, inspectFile } from './inspect-file.js';
import {
  collect,
  type Inspection,
  type InspectOptions,
  type PartReport,
  tensorRows,
} from './inspect-report.js';
import { checkValues } from './inspect-values.js';

/** Models that run here, by the class a config names; made without weights. */
const MODELS: Readonly<
  Record<string, new (config: unknown, where: string) => Model & { readonly warnings: readonly string[] }>
> = {
  UNet2DConditionModel,
  AutoencoderKL,
  CLIPTextModel,
  CLIPTextModelWithProjection,
  CLIPVisionModel,
  CLIPVisionModelWithProjection,
  CLIPModel,
};
const PIPELINES = ['StableDiffusionPipeline', 'StableDiffusionXLPipeline'];
/** Parts of a pipeline that play no role in making an image. */
const UNUSED = ['safety_checker', 'feature_extractor', 'image_encoder'];
/** Index buffers of older files. */
const POSITION_IDS = /(^|\.)position_ids$/;

/** @throws EquipoiseError `missing` when the folder holds nothing known */
export async function inspectFolder(path: string, options: InspectOptions): Promise<Inspection> {
  const names = await readdir(path);
  const adapter = [PEFT_ADAPTER, DIFFUSERS_ADAPTER].find((name) => names.includes(name));
  if (adapter !== undefined) return inspectAdapterFolder(path, adapter, options);
  if (names.includes('model_index.json') || names.includes('config.json')) {
    const { variant } = options;
    const folder = await openFolder(path, variant === undefined ? {} : { variant });
    return folder.kind === 'pipeline' ? inspectPipeline(folder, options) : inspectModel(folder, options);
  }
  const [only, ...others] = names.filter((name) => name.endsWith('.safetensors'));
  if (only !== undefined && others.length === 0) return inspectFile(join(path, only), options);
  throw new EquipoiseError(
    'missing',
    `${path}: expected model_index.json, config.json or an adapter, got ${names.length === 0 ? 'an empty folder' : prose(names.slice(0, 6).join(', ')).text}`,
  );
}

async function inspectAdapterFolder(
  path: string,
  name: string,
  options: InspectOptions,
): Promise<Inspection> {
  const report = await inspectFile(join(path, name), options);
  // Once more through the folder: settings beside the file decide its scales.
  const problems = [...report.problems];
  let { adapter } = report;
  if (problems.length === 0)
    await collect(problems, async () => void (adapter = await describeAdapter(path)));
  return { ...report, path, problems, architecture: adapterText(adapter), ...(adapter && { adapter }) };
}

/** A report that is being put together. */
interface Draft {
  readonly parts: PartReport[];
  readonly tensors: Inspection['tensors'];
  readonly problems: string[];
  readonly notices: string[];
}

const draft = (): Draft => ({ parts: [], tensors: [], problems: [], notices: [] });

async function inspectModel(folder: ModelFolder, options: InspectOptions): Promise<Inspection> {
  const report = draft();
  const component = await folder.component('');
  await inspectPart(component, '', report, options);
  report.notices.push(...folder.notices);
  const [part] = report.parts.splice(0) as [PartReport];
  return {
    ...report,
    path: folder.path,
    kind: 'model',
    architecture: part.architecture ?? part.className ?? 'unknown class',
    ...(part.summary && { summary: part.summary }),
  };
}

async function inspectPipeline(folder: ModelFolder, options: InspectOptions): Promise<Inspection> {
  const report = draft();
  const { className = 'unknown class', path } = folder;
  if (!PIPELINES.includes(className))
    report.problems.push(`${path}: pipeline: expected ${PIPELINES.join(' or ')}, got ${className}`);
  for (const name of folder.components.keys()) {
    throwIfCancelled(options.signal, `inspect ${name}`);
    await collect(report.problems, async () =>
      inspectPart(await folder.component(name), name, report, options),
    );
  }
  const needed = [
    'unet',
    'vae',
    'scheduler',
    'tokenizer',
    'text_encoder',
    ...(className === PIPELINES[1] ? ['tokenizer_2', 'text_encoder_2'] : []),
  ];
  for (const name of needed) {
    if (!folder.has(name)) report.problems.push(`${path}: expected a component ${name}, got none`);
  }
  report.notices.push(...folder.notices);
  const sums = report.parts.flatMap(({ summary }) => summary ?? []);
  const summary = {
    tensors: sums.reduce((sum, { tensors }) => sum + tensors, 0),
    elements: sums.reduce((sum, { elements }) => sum + elements, 0),
    bytes: sums.reduce((sum, { bytes }) => sum + bytes, 0),
    dtypes: sums.reduce<Record<string, number>>((all, { dtypes }) => {
      for (const [dtype, count] of Object.entries(dtypes)) all[dtype] = (all[dtype] ?? 0) + count;
      return all;
    }, {}),
  };
  return { ...report, path, kind: 'pipeline', architecture: className, summary };
}

async function inspectPart(
  component: ComponentFolder,
  name: string,
  report: Draft,
  options: InspectOptions,
): Promise<void> {
  const { className = null, path } = component;
  if (name.startsWith('tokenizer')) {
    report.parts.push({ name, className });
    await collect(report.problems, async () => void (await ClipTokenizer.fromFolder(path)));
  } else if (name === 'scheduler' || className?.endsWith('Scheduler')) {
    report.parts.push({ name, className });
    await collect(report.problems, () => {
      const { ignored } = parseSchedulerConfig(component.config, {
        source: join(path, 'scheduler_config.json'),
      });
      report.notices.push(...ignored.map((key) => `${path}: setting ${key} has no effect`));
    });
  } else if (UNUSED.includes(name)) {
    report.parts.push({ name, className, architecture: 'not used here' });
  } else {
    await inspectWeights(component, name, report, options);
  }
}

async function inspectWeights(
  component: ComponentFolder,
  name: string,
  report: Draft,
  options: InspectOptions,
): Promise<void> {
  const { className = null, path } = component;
  const type = className !== null && Object.hasOwn(MODELS, className) ? MODELS[className] : undefined;
  let part: PartReport = {
    name,
    className,
    variants: (await component.variants()).map((variant) => variant || 'plain'),
  };
  let model: (Model & { readonly warnings: readonly string[] }) | undefined;
  if (type === undefined)
    report.problems.push(
      `${path}: class: expected one of ${Object.keys(MODELS).join(', ')}, got ${className ?? 'none'}`,
    );
  else
    await collect(report.problems, () => {
      const { config, where } = component.modelConfig();
      model = new type(config, where);
    });
  if (model instanceof UNet2DConditionModel)
    part = { ...part, architecture: `UNet of ${familyOf(model.config.cross_attention_dim)}` };
  report.notices.push(...(model?.warnings ?? []));
  await collect(report.problems, async () => {
    await using state = await component.openWeights();
    const sources = state.sources();
    part = { ...part, summary: summarizeTensors(sources) };
    if (options.tensors) report.tensors.push(...tensorRows(sources, name === '' ? '' : `${name}/`));
    if (model !== undefined) {
      const manifest = new Map(model.manifest().map((entry) => [entry.name, entry.shape]));
      await collect(report.problems, () => state.require(manifest, { ignore: [POSITION_IDS] }));
    }
    if (options.values) await checkValues(sources, report.problems, options.signal);
  });
  report.parts.push(part);
}
