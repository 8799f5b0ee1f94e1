/** `equipoise convert` on the folder of a pipeline or model: weights are rewritten, everything else is copied. */
import { rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import {
  exists,
  fillFolderAtomic,
  type JobContext,
  throwIfCancelled,
  writeFileAtomic,
} from '@equipoise/core';
import {
  type ComponentFolder,
  type FloatType,
  type ModelFolder,
  openFolder,
  removeOtherWeights,
  type SafeRoot,
  type SaveOptions,
  saveModel,
  weightsBase,
  withWeightsType,
} from '@equipoise/weights';
import type { CommandContext } from '../command.js';
import { converted } from './convert-types.js';

export interface ConvertFolderOptions {
  readonly dtype: FloatType | undefined;
  /** Weights variant to read, and the one to write. */
  readonly variant: string | undefined;
  readonly outVariant: string | undefined;
  readonly maxShardBytes: number | undefined;
}

const SETTINGS = /\.(json|txt|model)$/;
const SHARD_INDEX = /\.safetensors\.index(\.[^.]+)?\.json$/;

type Library = 'diffusers' | 'transformers';

/** A model of a pipeline, or the one a folder holds: then without a name. */
interface Part {
  readonly name: string;
  readonly library: Library;
}

/**
 * Writes a copy of a folder, all or nothing. Where files of an earlier one are replaced, `model_index.json` goes first and
 * comes last, so that a copy which is cut short then is no pipeline.
 *
 * @returns the files written, relative to `out`
 */
export async function convertFolder(
  source: string,
  out: string,
  options: ConvertFolderOptions,
  context: CommandContext,
): Promise<string[]> {
  const folder = await openFolder(source, options.variant === undefined ? {} : { variant: options.variant });
  const parts: Part[] =
    folder.kind === 'component'
      ? [{ name: '', library: libraryOf(folder) }]
      : [...folder.components].map(([name, { library }]) => ({
          name,
          library: library === 'diffusers' ? 'diffusers' : 'transformers',
        }));
  const written = await fillFolderAtomic(
    out,
    (to) => convertParts(folder, parts, to, options, writing(context, to, out)),
    (files) => clearEarlier(out, parts, files, options.outVariant),
  );
  for (const notice of folder.notices) context.note(notice);
  return written;
}

/** A context that tells of files in a temporary folder as of those in `out`, which they will be. */
export function writing({ signal, onProgress }: JobContext, temporary: string, out: string): JobContext {
  return {
    signal,
    onProgress: (event) => onProgress?.({ ...event, task: event.task.replaceAll(temporary, out) }),
  };
}

async function convertParts(
  folder: ModelFolder,
  parts: readonly Part[],
  out: string,
  options: ConvertFolderOptions,
  context: JobContext,
): Promise<string[]> {
  const written: string[] = [];
  for (const { name, library } of parts) {
    throwIfCancelled(context.signal, `convert ${name}`);
    const component = await folder.component(name);
    const files = await convertComponent(component, library, join(out, name), options, context);
    written.push(...files.map((file) => join(name, file)));
  }
  if (folder.kind === 'component') return written;
  await writeFileAtomic(join(out, 'model_index.json'), await folder.root.text('model_index.json'));
  return [...written, 'model_index.json'];
}

/** Removes what makes an earlier copy a pipeline, and its weights where they were split differently. */
async function clearEarlier(
  out: string,
  parts: readonly Part[],
  files: readonly string[],
  variant: string | undefined,
): Promise<void> {
  await rm(join(out, 'model_index.json'), { force: true });
  for (const { name, library } of parts) {
    const base = weightsBase(library);
    const kept = files.filter((file) => file.startsWith(join(name, base))).map((file) => basename(file));
    if (kept.length > 0 && (await exists(join(out, name))))
      await removeOtherWeights(join(out, name), base, variant, kept);
  }
}

function libraryOf({ config }: ModelFolder): Library {
  return typeof config['_class_name'] === 'string' ? 'diffusers' : 'transformers';
}

async function convertComponent(
  component: ComponentFolder,
  library: Library,
  out: string,
  options: ConvertFolderOptions,
  { signal, onProgress }: JobContext,
): Promise<string[]> {
  const hasWeights = (await component.variants()).length > 0;
  // Weights without settings would be given invented ones.
  if (hasWeights) component.modelConfig();
  const written = await copySettings(component.root, out, hasWeights);
  // A folder with a config for weights but none of them is damaged: opening them says how.
  if (!hasWeights && !(await component.root.has('config.json'))) return written;
  const { dtype, outVariant, maxShardBytes } = options;
  await using state = await component.openWeights();
  const sources = state.sources().map((source) => converted(source, dtype));
  const own = await component.savedConfig();
  const config = dtype === undefined ? own : withWeightsType(own, library, dtype);
  const save: SaveOptions = {
    signal,
    onProgress,
    ...(outVariant !== undefined && { variant: outVariant }),
    ...(maxShardBytes !== undefined && { maxShardBytes }),
  };
  return [...written, ...(await saveModel(out, library, config, sources, save))];
}

/** Tokenizer files, scheduler configs and the like; `config.json` is written with the weights it belongs to. */
async function copySettings(root: SafeRoot, out: string, hasWeights: boolean): Promise<string[]> {
  const names = (await root.list()).filter(
    (name) => SETTINGS.test(name) && !SHARD_INDEX.test(name) && !(hasWeights && name === 'config.json'),
  );
  for (const name of names) await writeFileAtomic(join(out, name), await root.text(name));
  return names;
}
