/** Access to the files of a folder that came from someone else. */
import { readdir, readFile, realpath, stat } from 'node:fs/promises';
import { basename, dirname, join, sep } from 'node:path';
import { EquipoiseError, invalid, nearest, parseJson, prose, systemErrorCode } from '@equipoise/core';

/** No config, vocabulary or index is nearly this large. */
const MAX_TEXT_BYTES = 256 << 20;

/**
 * A folder from which nothing leads out: names with `..`, absolute names and symbolic links that point
 * elsewhere are refused. In a snapshot of the Hugging Face cache, whose files are links into the repository's
 * own `blobs` folder, those links are followed.
 */
export class SafeRoot {
  private constructor(
    /** As the user gave it, for messages. */
    readonly path: string,
    private readonly allowed: readonly string[],
  ) {}

  /** @throws EquipoiseError `missing` when there is no such folder */
  static async open(path: string): Promise<SafeRoot> {
    let real: string;
    try {
      real = await realpath(path);
      if (!(await stat(real)).isDirectory()) throw invalid(path, 'a folder', prose('a file'));
    } catch (cause) {
      if (systemErrorCode(cause) === 'ENOENT')
        throw new EquipoiseError('missing', `${path}: no such folder`, { cause });
      throw cause;
    }
    return new SafeRoot(path, [real, ...cacheBlobs(real)]);
  }

  /** A folder inside this one, with the same limits. */
  async folder(name: string): Promise<SafeRoot> {
    const path = await this.resolve(name);
    if (!(await stat(path)).isDirectory()) throw invalid(path, 'a folder', prose('a file'));
    return new SafeRoot(join(this.path, name), this.allowed);
  }

  /**
   * The path of an entry, after checking that it stays inside.
   *
   * @throws EquipoiseError `unsafe`, or `missing` with the nearest name there is
   */
  async resolve(name: string): Promise<string> {
    this.#checkName(name);
    const path = join(this.path, name);
    let real: string;
    try {
      real = await realpath(path);
    } catch (cause) {
      if (systemErrorCode(cause) === 'ELOOP')
        throw invalid(path, 'a file', prose('a link that leads back to itself'), { code: 'corrupt', cause });
      if (systemErrorCode(cause) !== 'ENOENT' && systemErrorCode(cause) !== 'ENOTDIR') throw cause;
      const closest = nearest(basename(name), await this.list().catch(() => []));
      throw new EquipoiseError('missing', `${path}: no such file`, {
        cause,
        hints: closest === undefined ? [] : [`Did you mean ${closest}?`],
      });
    }
    if (this.allowed.some((root) => real === root || real.startsWith(root + sep))) return path;
    throw new EquipoiseError('unsafe', `${path}: expected a file inside the folder, got a link to ${real}`, {
      hints: ['If you trust the link, copy the file into the folder.'],
    });
  }

  /** Whether an entry exists inside; false as well for a broken link, an error for one that leads out. */
  async has(name: string): Promise<boolean> {
    try {
      await this.resolve(name);
      return true;
    } catch (error) {
      if (error instanceof EquipoiseError && error.code === 'missing') return false;
      throw error;
    }
  }

  /** Names in this folder, sorted. */
  async list(): Promise<string[]> {
    return (await readdir(this.path)).sort();
  }

  /** A UTF-8 text file. */
  async text(name: string): Promise<string> {
    const path = await this.resolve(name);
    const { size } = await stat(path);
    if (size > MAX_TEXT_BYTES)
      throw invalid(path, `at most ${MAX_TEXT_BYTES} bytes`, size, { code: 'corrupt' });
    try {
      return new TextDecoder('utf-8', { fatal: true }).decode(await readFile(path));
    } catch (cause) {
      if (!(cause instanceof TypeError)) throw cause;
      throw new EquipoiseError('corrupt', `${path}: expected UTF-8 text, got bytes that are not`, { cause });
    }
  }

  /** A JSON file that holds an object. */
  async json(name: string): Promise<Record<string, unknown>> {
    const path = join(this.path, name);
    const value = parseJson(await this.text(name), path);
    if (typeof value === 'object' && value !== null && !Array.isArray(value))
      return value as Record<string, unknown>;
    throw invalid(path, 'a JSON object', value, { code: 'corrupt' });
  }

  #checkName(name: string): void {
    const parts = name.split('/');
    const bad = parts.some((part) => part === '' || part === '.' || part === '..' || /[\\\0]/.test(part));
    if (bad) throw invalid(`${this.path}: file name`, 'a name inside the folder', name, { code: 'unsafe' });
  }
}

/** The blobs folder of a Hugging Face cache when `folder` is (in) a snapshot: `models--x--y/snapshots/<commit>`. */
function cacheBlobs(folder: string): string[] {
  for (let path = folder; path !== dirname(path); path = dirname(path)) {
    const snapshots = dirname(path);
    const repository = dirname(snapshots);
    if (basename(snapshots) === 'snapshots' && /^(models|datasets|spaces)--/.test(basename(repository))) {
      return [join(repository, 'blobs')];
    }
  }
  return [];
}
