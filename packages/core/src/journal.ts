/** An append-only record of finished units of work, safe against being killed at any instant. */
import { type FileHandle, open, readFile } from 'node:fs/promises';
import { writeError, writeFileAtomic, writeFully } from './atomic.js';
import { EquipoiseError, invalid, systemErrorCode } from './errors.js';

export interface JournalOptions {
  /**
   * Whether a stored value is whole. With it, damaged lines and values that fail it are dropped when the journal is
   * opened, so that their units run again; without it a damaged line is an error.
   */
  readonly accept?: (key: string, value: unknown) => boolean;
}

/**
 * A file of one JSON line per unit: `{"key":…,"value":…}`. A line torn by a crash is dropped when the file is
 * opened, so that the unit runs again; a unit that is in the journal is never lost.
 */
export class Journal<T> {
  readonly #entries: Map<string, T>;
  readonly #file: FileHandle;
  #end: number;
  #queue: Promise<void> = Promise.resolve();
  /** Lines that were dropped as damaged when the journal was opened. */
  readonly dropped: number;

  private constructor(
    readonly path: string,
    file: FileHandle,
    entries: Map<string, T>,
    end: number,
    dropped: number,
  ) {
    this.#file = file;
    this.#entries = entries;
    this.#end = end;
    this.dropped = dropped;
  }

  /**
   * Opens or creates a journal.
   *
   * @throws EquipoiseError `corrupt` when a line other than the last is not what a journal writes, unless the options
   * say how to tell the good ones
   */
  static async open<T>(path: string, options: JournalOptions = {}): Promise<Journal<T>> {
    await (await open(path, 'a+')).close();
    const dropped = options.accept === undefined ? 0 : await salvage(path, options.accept);
    const file = await open(path, 'r+');
    try {
      const text = await file.readFile();
      const end = text.lastIndexOf(0x0a) + 1;
      if (end < text.byteLength) await file.truncate(end);
      return new Journal(path, file, parseEntries<T>(text.subarray(0, end), path), end, dropped);
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /** The good lines of a journal that someone else may be writing; nothing is changed. Empty where there is none. */
  static async read<T>(path: string): Promise<Map<string, T>> {
    const entries = new Map<string, T>();
    const text = await readFile(path, 'utf8').catch((error: unknown) => {
      if (systemErrorCode(error) === 'ENOENT') return '';
      throw error;
    });
    for (const [i, line] of text.split('\n').slice(0, -1).entries()) {
      const { key, value } = parseLine(line, path, i + 1);
      entries.set(key, value as T);
    }
    return entries;
  }

  /** Finished units, in the order they were first recorded. */
  get entries(): ReadonlyMap<string, T> {
    return this.#entries;
  }

  has(key: string): boolean {
    return this.#entries.has(key);
  }

  get(key: string): T | undefined {
    return this.#entries.get(key);
  }

  /**
   * Records a unit; when the promise resolves it is on the disk. A key recorded again takes the new value.
   *
   * @throws EquipoiseError `io` when the system refuses, for example because the disk is full; nothing is recorded then
   */
  append(key: string, value: T): Promise<void> {
    const line = JSON.stringify({ key, value });
    if (line === undefined || value === undefined)
      throw invalid(`${this.path}: ${key}`, 'a JSON value', value);
    const write = this.#queue.then(async () => {
      const data = Buffer.from(`${line}\n`);
      try {
        await writeFully(this.#file, data, this.#end);
        await this.#file.datasync();
      } catch (error) {
        throw writeError(this.path, error);
      }
      this.#end += data.byteLength;
      this.#entries.set(key, value);
    });
    this.#queue = write.catch(() => undefined);
    return write;
  }

  /** The stored value of `key`, or that of `work`, run and recorded now. */
  async once(key: string, work: () => Promise<T>): Promise<T> {
    if (this.#entries.has(key)) return this.#entries.get(key) as T;
    const value = await work();
    await this.append(key, value);
    return value;
  }

  async close(): Promise<void> {
    await this.#queue;
    await this.#file.close();
  }
}

/** Rewrites a journal with its good lines only, if any is bad; a torn last line is left to the caller. */
async function salvage(path: string, accept: (key: string, value: unknown) => boolean): Promise<number> {
  const handle = await open(path, 'r');
  const text = await handle.readFile('utf8').finally(() => handle.close());
  const lines = text.split('\n').slice(0, -1);
  const good = lines.filter((line, i) => {
    try {
      const { key, value } = parseLine(line, path, i + 1);
      return accept(key, value);
    } catch {
      return false;
    }
  });
  const dropped = lines.length - good.length;
  if (dropped > 0) await writeFileAtomic(path, good.map((line) => `${line}\n`).join(''));
  return dropped;
}

/**
 * The entries of a journal that another process may be writing: nothing is changed, a torn last line is passed over.
 *
 * @throws EquipoiseError `corrupt` as {@link Journal.open}
 */
export async function readJournal<T>(path: string): Promise<ReadonlyMap<string, T>> {
  const text = await readFile(path);
  return parseEntries<T>(text.subarray(0, text.lastIndexOf(0x0a) + 1), path);
}

function parseEntries<T>(whole: Buffer, path: string): Map<string, T> {
  const entries = new Map<string, T>();
  const lines = whole.toString('utf8').split('\n').slice(0, -1);
  for (const [i, line] of lines.entries()) {
    const { key, value } = parseLine(line, path, i + 1);
    entries.set(key, value as T);
  }
  return entries;
}

function parseLine(line: string, path: string, number: number): { key: string; value: unknown } {
  let entry: { key?: unknown; value?: unknown } | null;
  try {
    entry = JSON.parse(line) as typeof entry;
  } catch (cause) {
    throw new EquipoiseError('corrupt', `${path}: line ${number} is not valid JSON`, { cause });
  }
  if (typeof entry?.key !== 'string' || !('value' in entry)) {
    throw invalid(`${path}: line ${number}`, 'an object with key and value', entry, { code: 'corrupt' });
  }
  return { key: entry.key, value: entry.value };
}
