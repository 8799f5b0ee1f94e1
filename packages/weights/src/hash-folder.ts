import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { EquipoiseError, sha256File, sha256Json } from '@equipoise/core';

/** sha256 over the weights and configs of a component folder. */
export async function hashFolder(folder: string): Promise<string> {
  const names = (await readdir(folder)).filter((name) => /\.(safetensors|json)$/.test(name)).sort();
  const hashes = await Promise.all(names.map(async (name) => [name, await sha256File(join(folder, name))]));
  return sha256Json(hashes);
}

/**
 * sha256 of weights that lie in one file or in a folder, as adapters do.
 *
 * @throws EquipoiseError `missing`
 */
export async function hashWeights(path: string): Promise<string> {
  const found = await stat(path).catch((cause: unknown) => {
    throw new EquipoiseError('missing', `${path}: no such file or folder`, { cause });
  });
  return found.isDirectory() ? hashFolder(path) : sha256File(path);
}
