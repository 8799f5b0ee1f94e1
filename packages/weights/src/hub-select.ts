/** Which of a repository's files a model needs. */
import { invalid } from '@equipoise/core';

export interface SelectOptions {
  /** Weights variant; folders without it get the plain weights. */
  readonly variant?: string;
  /** Only these components of a pipeline; default all. */
  readonly components?: readonly string[];
}

const SETTINGS = /\.(json|txt|model)$/;
const SHARD = /-\d{5}-of-\d{5}$/;

/**
 * Refuses names that would leave the folder they are written to.
 *
 * @throws EquipoiseError `unsafe`
 */
export function checkRepositoryName(path: string, repository: string): void {
  const parts = path.split('/');
  const bad = parts.some((part) => part === '' || part === '.' || part === '..' || /[\\\0:]/.test(part));
  if (bad || path.length > 1024) {
    throw invalid(`${repository}: file name`, 'a name inside the repository', path, { code: 'unsafe' });
  }
}

/**
 * Picks configs, tokenizer files and one set of safetensors a folder. Pickles, other frameworks' weights, sample
 * images and, in a pipeline's root, single-file checkpoints stay behind.
 *
 * @param paths all files of the repository
 */
export function selectModelFiles(
  paths: readonly string[],
  { variant, components }: SelectOptions = {},
): string[] {
  const isPipeline = paths.includes('model_index.json');
  const folders = new Map<string, string[]>();
  for (const path of paths) {
    const slash = path.lastIndexOf('/');
    const folder = slash < 0 ? '' : path.slice(0, slash);
    // Components are one level deep; deeper folders hold training states and the like.
    if (folder.includes('/')) continue;
    if (isPipeline && folder !== '' && components !== undefined && !components.includes(folder)) continue;
    folders.set(folder, [...(folders.get(folder) ?? []), path]);
  }
  return [...folders].flatMap(([folder, files]) => {
    const settings = files.filter(
      (path) => SETTINGS.test(path) && !/\.safetensors\.index(\.[^.]+)?\.json$/.test(path),
    );
    const weights = isPipeline && folder === '' ? [] : selectWeights(files, variant);
    // A folder without anything to load (sample images, logs) needs no settings either.
    const useful = folder === '' || weights.length > 0 || settings.some((path) => /config\.json$/.test(path));
    return useful ? [...settings, ...weights] : [];
  });
}

function selectWeights(files: readonly string[], variant: string | undefined): string[] {
  const weights = files.filter((path) => path.endsWith('.safetensors'));
  const indices = files.filter((path) => /\.safetensors\.index(\.[^.]+)?\.json$/.test(path));
  const variantOf = (path: string): string => {
    const name = path.slice(path.lastIndexOf('/') + 1);
    const index = /\.safetensors\.index(?:\.([^.]+))?\.json$/.exec(name);
    if (index !== null) return index[1] ?? '';
    return /^[^.]+\.([^.]+)\.safetensors$/.exec(name)?.[1]?.replace(SHARD, '') ?? '';
  };
  const all = [...weights, ...indices];
  const wanted = variant !== undefined && all.some((path) => variantOf(path) === variant) ? variant : '';
  const chosen = all.filter((path) => variantOf(path) === wanted);
  // A whole file beside shards is the same weights once more.
  const whole = chosen.filter(
    (path) => path.endsWith('.safetensors') && !SHARD.test(path.slice(0, -'.safetensors'.length)),
  );
  return whole.length > 0 ? whole : chosen;
}
