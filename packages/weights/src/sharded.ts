/** Weights split over several files: `<base>-0000i-of-0000K.safetensors` and their index. */
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { EquipoiseError, invalid, prose, writeJsonAtomic } from '@equipoise/core';
import type { SafeRoot } from './safe-root.js';
import { openSafetensors, type SafetensorsFile, type WriteOptions, writeSafetensors } from './safetensors.js';
import { StateDict } from './state-dict.js';
import type { TensorSource } from './tensor-source.js';
import { refusePickleName } from './unsafe-formats.js';

/** The limit diffusers uses. */
const DEFAULT_SHARD_BYTES = 10_000_000_000;
/** More files than any model has; an index that names more is absurd. */
const MAX_SHARDS = 4096;

/** File of the weights: `diffusion_pytorch_model.fp16.safetensors`. */
export function weightsFileName(base: string, variant?: string): string {
  return variant === undefined ? `${base}.safetensors` : `${base}.${variant}.safetensors`;
}

/** Index of sharded weights: `diffusion_pytorch_model.safetensors.index.fp16.json`. */
export function indexFileName(base: string, variant?: string): string {
  return variant === undefined
    ? `${base}.safetensors.index.json`
    : `${base}.safetensors.index.${variant}.json`;
}

/** Which file holds which tensor. */
export interface ShardIndex {
  readonly weightMap: ReadonlyMap<string, string>;
  /** Bytes of all tensors as the index states them; informative only. */
  readonly totalSize?: number;
}

/**
 * Reads an index.
 *
 * @throws EquipoiseError `corrupt` for a malformed one, `unsafe` for file names that leave the folder or are
 * pickles
 */
export async function readShardIndex(root: SafeRoot, name: string): Promise<ShardIndex> {
  const path = join(root.path, name);
  const index = await root.json(name);
  const map = index['weight_map'];
  if (typeof map !== 'object' || map === null || Array.isArray(map)) {
    throw invalid(`${path}: weight_map`, 'an object', map, { code: 'corrupt' });
  }
  const weightMap = new Map<string, string>();
  for (const [tensor, file] of Object.entries(map)) {
    if (typeof file !== 'string') {
      throw invalid(`${path}: weight_map: ${JSON.stringify(tensor)}`, 'a file name', file, {
        code: 'corrupt',
      });
    }
    if (file.includes('/'))
      throw invalid(`${path}: file name`, 'a file beside the index', file, { code: 'unsafe' });
    refusePickleName(join(root.path, file));
    weightMap.set(tensor, file);
  }
  const files = new Set(weightMap.values()).size;
  if (files > MAX_SHARDS)
    throw invalid(`${path}: weight_map`, `at most ${MAX_SHARDS} files`, files, { code: 'corrupt' });
  const total = (index['metadata'] as { total_size?: unknown } | undefined)?.total_size;
  return { weightMap, ...(typeof total === 'number' ? { totalSize: total } : {}) };
}

/**
 * Opens all files of an index and checks that each holds exactly the tensors the index says.
 *
 * @throws EquipoiseError `corrupt` naming file and tensor
 */
export async function openSharded(root: SafeRoot, indexName: string): Promise<StateDict> {
  const { weightMap } = await readShardIndex(root, indexName);
  const path = join(root.path, indexName);
  const files = new Map<string, SafetensorsFile>();
  try {
    for (const name of new Set(weightMap.values())) {
      files.set(name, await openSafetensors(await root.resolve(name)));
    }
    const sources: TensorSource[] = [];
    for (const [tensor, name] of weightMap) {
      const source = files.get(name)?.tensors.get(tensor);
      if (source === undefined) throw missingTensor(path, tensor, name);
      sources.push(source);
    }
    for (const [name, file] of files) {
      const stray = [...file.tensors.keys()].find((tensor) => weightMap.get(tensor) !== name);
      if (stray !== undefined) {
        const expected = `the tensors listed for ${name}`;
        throw invalid(path, expected, prose(`${JSON.stringify(stray)} in it as well`), { code: 'corrupt' });
      }
    }
    return new StateDict(sources, root.path, [...files.values()]);
  } catch (error) {
    for (const file of files.values()) await file.close();
    throw error;
  }
}

function missingTensor(path: string, tensor: string, file: string): EquipoiseError {
  return new EquipoiseError(
    'corrupt',
    `${path}: tensor ${JSON.stringify(tensor)}: expected it in ${file}, got none there`,
  );
}

export interface SaveOptions extends WriteOptions {
  readonly variant?: string;
  /** Split above this many bytes of tensors a file. Default 10 GB, as in diffusers. */
  readonly maxShardBytes?: number;
}

/**
 * Groups tensors into shards in the order given, as the Python libraries do: a shard is closed when the next
 * tensor would pass the limit, and a tensor above the limit gets a shard of its own.
 */
export function splitShards(sources: readonly TensorSource[], maxShardBytes: number): TensorSource[][] {
  const shards: TensorSource[][] = [];
  let current: TensorSource[] = [];
  let bytes = 0;
  for (const source of sources) {
    if (source.byteLength > maxShardBytes) {
      shards.push([source]);
      continue;
    }
    if (bytes + source.byteLength > maxShardBytes) {
      if (current.length > 0) shards.push(current);
      current = [];
      bytes = 0;
    }
    current.push(source);
    bytes += source.byteLength;
  }
  if (current.length > 0 || shards.length === 0) shards.push(current);
  return shards;
}

/**
 * Saves a model's tensors as one file, or as shards with an index. Each file is written atomically and the
 * index comes last, so that an interrupted save is never taken for a whole one. Files of an earlier save of the
 * same weights that was split differently are then removed.
 *
 * @returns the names of the files written
 */
export async function saveWeights(
  folder: string,
  base: string,
  sources: readonly TensorSource[],
  options: SaveOptions = {},
): Promise<string[]> {
  const { variant, maxShardBytes = DEFAULT_SHARD_BYTES } = options;
  if (!(maxShardBytes > 0)) throw invalid('maxShardBytes', 'a number above 0', maxShardBytes);
  const shards = splitShards(sources, maxShardBytes);
  if (shards.length === 1) {
    const name = weightsFileName(base, variant);
    await writeSafetensors(join(folder, name), sources, options);
    await removeOtherWeights(folder, base, variant, [name]);
    return [name];
  }
  const stem = variant === undefined ? base : `${base}.${variant}`;
  const number = (i: number): string => String(i).padStart(5, '0');
  const weightMap: Record<string, string> = {};
  const names: string[] = [];
  for (const [i, shard] of shards.entries()) {
    const name = `${stem}-${number(i + 1)}-of-${number(shards.length)}.safetensors`;
    await writeSafetensors(join(folder, name), shard, options);
    for (const source of shard) weightMap[source.name] = name;
    names.push(name);
  }
  const total = sources.reduce((sum, source) => sum + source.byteLength, 0);
  const index = indexFileName(base, variant);
  await writeJsonAtomic(join(folder, index), { metadata: { total_size: total }, weight_map: weightMap });
  await removeOtherWeights(folder, base, variant, [...names, index]);
  return [...names, index];
}

/** Removes what an earlier save of the same weights left, when it was split differently: all files but `keep`. */
export async function removeOtherWeights(
  folder: string,
  base: string,
  variant: string | undefined,
  keep: readonly string[],
): Promise<void> {
  const stem = variant === undefined ? base : `${base}.${variant}`;
  const isShard = (name: string): boolean =>
    name.startsWith(`${stem}-`) && /^-\d{5}-of-\d{5}\.safetensors$/.test(name.slice(stem.length));
  const ours = (name: string): boolean =>
    isShard(name) || name === `${stem}.safetensors` || name === indexFileName(base, variant);
  for (const name of await readdir(folder)) {
    if (ours(name) && !keep.includes(name)) await rm(join(folder, name), { force: true });
  }
}
