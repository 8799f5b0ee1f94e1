import { readdir, realpath, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve, sep } from 'node:path';
import { defineOptions, EquipoiseError, fillFolderAtomic, invalid, option, prose, z } from '@equipoise/core';
import {
  openAdapter,
  openSafetensors,
  resolveModel,
  type SavedModule,
  saveDiffusersAdapter,
  savePeftAdapter,
  writeSafetensors,
} from '@equipoise/weights';
import { type CommandContext, defineCommand } from '../command.js';
import { convertFolder, writing } from './convert-folder.js';
import { converted, DTYPES, type DtypeName, floatType, parseSize } from './convert-types.js';
import { isAdapter } from './inspect-file.js';

const options = defineOptions('convert', {
  source: option(z.string(), 'Folder of a pipeline, model or adapter, safetensors file, or hub id.', {
    placeholder: 'path',
  }),
  out: option(z.string(), 'What to write: a folder, or for a plain safetensors file a file.', {
    placeholder: 'path',
  }),
  dtype: option(z.enum(DTYPES).optional(), 'Number type of floating-point tensors. Default: as they are.'),
  variant: option(z.string().optional(), 'Weights variant to read, such as fp16.', { group: 'Models' }),
  outVariant: option(
    z
      .string()
      .regex(/^[A-Za-z0-9_-]+$/)
      .optional(),
    'Weights variant to write: part of the file names.',
    { group: 'Models' },
  ),
  shardSize: option(z.string().optional(), 'Split weights into files of at most this size, such as 5GB.', {
    group: 'Models',
    placeholder: 'size',
  }),
  spelling: option(
    z.enum(['diffusers', 'peft']).optional(),
    'How an adapter is written: pytorch_lora_weights.safetensors, or adapter_model.safetensors with adapter_config.json. Default: diffusers.',
    { group: 'Adapters' },
  ),
  baseModel: option(z.string().optional(), 'Recorded by PEFT as the model an adapter belongs to.', {
    group: 'Adapters',
  }),
  force: option(z.boolean().default(false), 'Write into a folder that holds files, or replace a file.'),
});

interface Settings {
  readonly dtype?: DtypeName | undefined;
  readonly variant?: string | undefined;
  readonly outVariant?: string | undefined;
  readonly shardSize?: string | undefined;
  readonly spelling?: 'diffusers' | 'peft' | undefined;
  readonly baseModel?: string | undefined;
}

type Kind = 'folder' | 'adapter' | 'file';

const ADAPTER_FILES = ['adapter_model.safetensors', 'pytorch_lora_weights.safetensors'];

async function kindOf(path: string): Promise<Kind> {
  if ((await stat(path)).isDirectory()) {
    const names = await readdir(path);
    if (ADAPTER_FILES.some((name) => names.includes(name))) return 'adapter';
    const files = names.filter((name) => name.endsWith('.safetensors'));
    if (names.includes('model_index.json') || names.includes('config.json') || files.length !== 1)
      return 'folder';
    return kindOf(join(path, files[0] as string));
  }
  await using file = await openSafetensors(path);
  return isAdapter(file) ? 'adapter' : 'file';
}

/** Settings that mean something for other kinds only are refused, so that none is silently without effect. */
function checkSettings(kind: Kind, settings: Settings): void {
  const only: Partial<Record<keyof Settings, readonly Kind[]>> = {
    variant: ['folder'],
    outVariant: ['folder'],
    shardSize: ['folder'],
    spelling: ['adapter'],
    baseModel: ['adapter'],
  };
  const names: Record<keyof Settings, string> = {
    dtype: '--dtype',
    variant: '--variant',
    outVariant: '--out-variant',
    shardSize: '--shard-size',
    spelling: '--spelling',
    baseModel: '--base-model',
  };
  const what: Record<Kind, string> = { folder: 'a model', adapter: 'an adapter', file: 'a file of tensors' };
  for (const [key, kinds] of Object.entries(only) as [keyof Settings, readonly Kind[]][]) {
    if (settings[key] !== undefined && !kinds.includes(kind))
      throw invalid(names[key], `nothing when converting ${what[kind]}`, settings[key]);
  }
  if (settings.baseModel !== undefined && settings.spelling !== 'peft')
    throw invalid('--base-model', 'nothing without --spelling peft', settings.baseModel);
}

/** Where a path leads, through the links of as many of its folders as exist. */
async function realLocation(path: string): Promise<string> {
  const whole = resolve(path);
  try {
    return await realpath(whole);
  } catch {
    return dirname(whole) === whole ? whole : join(await realLocation(dirname(whole)), basename(whole));
  }
}

/** Refuses to write over or into the source, and over files unless told to. */
async function checkOut(source: string, out: string, kind: Kind, force: boolean): Promise<void> {
  const [from, to] = [await realpath(source), await realLocation(out)];
  if (from === to || to.startsWith(from + sep))
    throw invalid('out', 'a place outside the source', out, { code: 'conflict' });
  const info = await stat(out).catch(() => undefined);
  if (info === undefined) return;
  if (kind === 'file') {
    if (info.isDirectory())
      throw invalid('out', 'a file name, for the source is a file', prose(`${out}, which is a folder`));
    if (!force)
      throw new EquipoiseError('conflict', `${out}: expected a new file, got one that exists`, {
        hints: ['Give --force to replace it.'],
      });
    return;
  }
  if (!info.isDirectory()) throw invalid('out', 'a folder', prose(`${out}, which is a file`));
  const names = await readdir(out);
  if (names.length > 0 && !force)
    throw new EquipoiseError(
      'conflict',
      `${out}: expected a new or empty folder, got ${names.length} entries`,
      { hints: ['Give --force to write into it.'] },
    );
}

async function convertAdapter(
  source: string,
  out: string,
  { dtype, spelling = 'diffusers', baseModel }: Settings,
  { signal, onProgress }: CommandContext,
): Promise<string[]> {
  await using file = await openAdapter(source);
  const type = floatType(dtype);
  const components = new Map(
    [...file.components].map(([component, modules]) => {
      const entries = [...modules].map(([module, entry]): [string, SavedModule] => {
        const { magnitude } = entry;
        return [
          module,
          {
            ...entry,
            down: converted(entry.down, type),
            up: converted(entry.up, type),
            ...(magnitude && { magnitude: converted(magnitude, type) }),
          },
        ];
      });
      return [component, new Map(entries)];
    }),
  );
  return await fillFolderAtomic(out, async (folder) => {
    const context = writing({ signal, onProgress }, folder, out);
    if (spelling === 'diffusers') return [basename(await saveDiffusersAdapter(folder, components, context))];
    return savePeft(folder, components, { ...context, ...(baseModel !== undefined && { baseModel }) });
  });
}

/** @returns the files written, relative to `out` */
async function savePeft(
  out: string,
  components: ReadonlyMap<string, ReadonlyMap<string, SavedModule>>,
  options: Parameters<typeof savePeftAdapter>[2],
): Promise<string[]> {
  const written: string[] = [];
  for (const [component, modules] of components) {
    // PEFT keeps one model's adapter in a folder.
    const folder = components.size === 1 ? '' : component;
    await savePeftAdapter(join(out, folder), modules, options);
    written.push(...['adapter_model.safetensors', 'adapter_config.json'].map((name) => join(folder, name)));
  }
  return written;
}

async function convertFile(
  source: string,
  out: string,
  { dtype }: Settings,
  { signal, onProgress }: CommandContext,
): Promise<void> {
  await using file = await openSafetensors(source);
  const sources = [...file.tensors.values()].map((tensor) => converted(tensor, floatType(dtype)));
  const metadata = file.metadata.size === 0 ? null : Object.fromEntries(file.metadata);
  await writeSafetensors(out, sources, { metadata, signal, onProgress });
}

export const convert = defineCommand({
  options,
  positionals: ['source', 'out'],
  description:
    'Copies a pipeline, a model, an adapter or a file of tensors with another number type, weights variant, shard size or adapter spelling. Old tensor names are brought up to date. Tensors are streamed: memory does not grow with their size. A folder is written whole or not at all, and so is a file.',
  examples: [
    'equipoise convert sd/ sd-fp16/ --dtype f16 --out-variant fp16',
    'equipoise convert sdxl/ sharded/ --shard-size 2GB',
    'equipoise convert kohya.safetensors style/ --spelling peft',
    'equipoise convert weights.safetensors small.safetensors --dtype bf16',
  ],
  stopped: 'Nothing was written; start the same command again.',
  async run({ source: given, out, force, ...settings }, context) {
    const { signal, onProgress, print } = context;
    const maxShardBytes =
      settings.shardSize === undefined ? undefined : parseSize(settings.shardSize, '--shard-size');
    const source = await resolveModel(given, {
      signal,
      onProgress,
      ...(settings.variant !== undefined && { variant: settings.variant }),
    });
    const kind = await kindOf(source);
    checkSettings(kind, settings);
    await checkOut(source, out, kind, force);
    if (kind === 'file') {
      await convertFile(source, out, settings, context);
      print(out);
      return 0;
    }
    const { dtype, variant, outVariant } = settings;
    const files =
      kind === 'adapter'
        ? await convertAdapter(source, out, settings, context)
        : await convertFolder(
            source,
            out,
            { dtype: floatType(dtype), variant, outVariant, maxShardBytes },
            context,
          );
    for (const file of files) print(join(out, file));
    return 0;
  },
});
