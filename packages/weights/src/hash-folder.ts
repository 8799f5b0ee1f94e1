import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { sha256File, sha256Json } from '@equipoise/core';

/** sha256 over the weights and configs of a component folder. */
export async function hashFolder(folder: string): Promise<string> {
  const names = (await readdir(folder)).filter((name) => /\.(safetensors|json)$/.test(name)).sort();
  const hashes = await Promise.all(names.map(async (name) => [name, await sha256File(join(folder, name))]));
  return sha256Json(hashes);
}
