/** `equipoise convert` on the folder of a pipeline or model: weights are rewritten, everything else is copied. */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { throwIfCancelled, writeFileAtomic } from '@equipoise/core';
import {
  type ComponentFolder,
  type FloatType,
  type ModelFolder,
  openFolder,
  type SafeRoot,
  type SaveOptions,
  saveModel,
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

/**
 * Writes a copy of a folder. `model_index.json` comes last, so that an interrupted copy is no pipeline.
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
  const written: string[] = [];
  if (folder.kind === 'component') {
    written.push(
      ...(await convertComponent(await folder.component(''), libraryOf(folder), out, options, context)),
    );
  } else {
    await rm(join(out, 'model_index.json'), { force: true });
    for (const [name, { library }] of folder.components) {
      throwIfCancelled(context.signal, `convert ${name}`);
      const component = await folder.component(name);
      const files = await convertComponent(
        component,
        library === 'diffusers' ? 'diffusers' : 'transformers',
        join(out, name),
        options,
        context,
      );
      written.push(...files.map((file) => `${name}/${file}`));
    }
    await writeFileAtomic(join(out, 'model_index.json'), await folder.root.text('model_index.json'));
    written.push('model_index.json');
  }
  for (const notice of folder.notices) context.note(notice);
  return written;
}

function libraryOf({ config }: ModelFolder): 'diffusers' | 'transformers' {
  return typeof config['_class_name'] === 'string' ? 'diffusers' : 'transformers';
}

async function convertComponent(
  component: ComponentFolder,
  library: 'diffusers' | 'transformers',
  out: string,
  options: ConvertFolderOptions,
  { signal, onProgress }: CommandContext,
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
