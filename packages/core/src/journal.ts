/** An append-only record of finished units of work, safe against being killed at any instant. */
import { type FileHandle, open } from 'node:fs/promises';
import { writeFully } from './atomic.js';
import { EquipoiseError, invalid } from './errors.js';

/**
 * A file of one JSON line per unit: `{"key":…,"value":…}`. A line torn by a crash is dropped when the file is
 * opened, so that the unit runs again; a unit that is in the journal is never lost.
 */
export class Journal<T> {
  readonly #entries: Map<string, T>;
  readonly #file: FileHandle;
  #end: number;
  #queue: Promise<void> = Promise.resolve();

  private constructor(
    readonly path: string,
    file: FileHandle,
    entries: Map<string, T>,
    end: number,
  ) {
    this.#file = file;
    this.#entries = entries;
    this.#end = end;
  }

  /**
   * Opens or creates a journal.
   *
   * @throws EquipoiseError `corrupt` when a line other than the last is not what a journal writes
   */
  static async open<T>(path: string): Promise<Journal<T>> {
    const file = await open(path, 'a+').then(async (created) => {
      await created.close();
      return open(path, 'r+');
    });
    try {
      const text = await file.readFile();
      const end = text.lastIndexOf(0x0a) + 1;
      if (end < text.byteLength) await file.truncate(end);
      const entries = new Map<string, T>();
      const lines = text.subarray(0, end).toString('utf8').split('\n').slice(0, -1);
      for (const [i, line] of lines.entries()) {
        const { key, value } = parseLine(line, path, i + 1);
        entries.set(key, value as T);
      }
      return new Journal(path, file, entries, end);
    } catch (error) {
      await file.close();
      throw error;
    }
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

  /** Records a unit; when the promise resolves it is on the disk. A key recorded again takes the new value. */
  append(key: string, value: T): Promise<void> {
    const line = JSON.stringify({ key, value });
    if (line === undefined || value === undefined)
      throw invalid(`${this.path}: ${key}`, 'a JSON value', value);
    const write = this.#queue.then(async () => {
      const data = Buffer.from(`${line}\n`);
      await writeFully(this.#file, data, this.#end);
      await this.#file.datasync();
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
