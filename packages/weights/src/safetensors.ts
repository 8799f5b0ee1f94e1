/** Reading and writing safetensors files. */
import { type FileHandle, open, stat } from 'node:fs/promises';
import {
  EquipoiseError,
  invalid,
  type JobContext,
  nearest,
  ProgressCounter,
  prose,
  systemErrorCode,
  throwIfCancelled,
  writeFileAtomic,
  writeFully,
} from '@equipoise/core';
import { byteLengthOf, checkDType } from './dtypes.js';
import {
  buildHeader,
  compareTensors,
  type Header,
  parseHeader,
  parsePrefix,
  type TensorInfo,
} from './header.js';
import { checkRange, shortRead, type TensorSource } from './tensor-source.js';
import { refuseForeignFormat, refusePickleName } from './unsafe-formats.js';

/** Piece size of reads and writes: large enough for full speed, small enough to stay responsive. */
const PIECE_BYTES = 16 << 20;

/**
 * An open safetensors file. Only the header is in memory; tensors are read where they lie when asked for.
 * Close it when done.
 */
export class SafetensorsFile {
  readonly path: string;
  readonly metadata: ReadonlyMap<string, string>;
  /** By name, in the order of the data. */
  readonly tensors: ReadonlyMap<string, TensorSource>;
  /** Size of the whole file. */
  readonly byteLength: number;
  readonly #handle: FileHandle;
  #closed = false;

  private constructor(path: string, handle: FileHandle, header: Header, byteLength: number) {
    this.path = path;
    this.#handle = handle;
    this.metadata = header.metadata;
    this.byteLength = byteLength;
    this.tensors = new Map(header.tensors.map((info) => [info.name, this.#source(info, header.dataOffset)]));
  }

  /**
   * Opens and validates a file.
   *
   * @throws EquipoiseError `corrupt` for whatever the format forbids, `unsafe` for pickle files, `missing`
   */
  static async open(path: string): Promise<SafetensorsFile> {
    refusePickleName(path);
    const handle = await openFile(path);
    try {
      const { size } = await handle.stat();
      const prefix = await readUpTo(handle, 0, Math.min(8, size));
      refuseForeignFormat(prefix, path);
      const length = parsePrefix(prefix, size, path);
      const json = await readUpTo(handle, 8, length);
      if (json.byteLength < length) {
        throw invalid(`${path}: header`, `${length} bytes`, json.byteLength, { code: 'corrupt' });
      }
      return new SafetensorsFile(path, handle, parseHeader(json, size, path), size);
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  /** One tensor; a missing one is reported with the nearest name. */
  get(name: string): TensorSource {
    const source = this.tensors.get(name);
    if (source !== undefined) return source;
    const closest = nearest(name, this.tensors.keys());
    throw new EquipoiseError('missing', `${this.path}: no tensor ${JSON.stringify(name)}`, {
      hints: closest === undefined ? [] : [`Did you mean ${JSON.stringify(closest)}?`],
    });
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#handle.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #source(info: TensorInfo, dataOffset: number): TensorSource {
    const start = dataOffset + info.begin;
    const byteLength = info.end - info.begin;
    const readInto = async (target: Uint8Array, offset = 0): Promise<void> => {
      checkRange(source, target, offset);
      if (this.#closed) throw new EquipoiseError('internal', `${this.path}: read after close`);
      const got = await readFully(this.#handle, target, start + offset);
      if (got < target.byteLength) throw shortRead(source, got, target.byteLength);
    };
    const source: TensorSource = {
      name: info.name,
      dtype: info.dtype,
      shape: info.shape,
      byteLength,
      origin: this.path,
      readInto,
      read: async () => {
        const bytes = new Uint8Array(byteLength);
        await readInto(bytes);
        return bytes;
      },
    };
    return source;
  }
}

/** {@link SafetensorsFile.open}. */
export function openSafetensors(path: string): Promise<SafetensorsFile> {
  return SafetensorsFile.open(path);
}

/**
 * Validates a file held in memory and returns its header; offsets point into `bytes`.
 *
 * @throws EquipoiseError `corrupt`
 */
export function parseSafetensors(bytes: Uint8Array, source = 'bytes'): Header {
  const length = parsePrefix(bytes.subarray(0, 8), bytes.byteLength, source);
  return parseHeader(bytes.subarray(8, 8 + length), bytes.byteLength, source);
}

export interface WriteOptions extends JobContext {
  /** `{ format: 'pt' }` is what diffusers and transformers expect, and the default; null writes none. */
  readonly metadata?: Readonly<Record<string, string>> | null;
}

/**
 * Writes tensors to a file, atomically, byte for byte as the reference writer would: sorted by type rank and
 * name, space-padded header. With more than one metadata key, for which the reference has no fixed order, keys
 * are sorted. Tensors are copied through one small buffer, so that memory does not grow with their size.
 *
 * @returns the size of the file
 * @throws EquipoiseError `invalid` for repeated or reserved names, `io` when the disk is full (the old file
 * then stays)
 */
export async function writeSafetensors(
  path: string,
  tensors: Iterable<TensorSource>,
  options: WriteOptions = {},
): Promise<number> {
  const sorted = checkTensors([...tensors], path);
  const metadata = new Map(
    Object.entries(options.metadata === undefined ? { format: 'pt' } : (options.metadata ?? {})),
  );
  const header = buildHeader(sorted, metadata);
  const total = sorted.reduce((sum, source) => sum + source.byteLength, 0);
  const largest = sorted.reduce((max, source) => Math.max(max, source.byteLength), 0);
  const piece = new Uint8Array(Math.min(PIECE_BYTES, largest));
  const progress = new ProgressCounter(`write ${path}`, options, { total, unit: 'byte' });
  await writeFileAtomic(path, async (file) => {
    await writeFully(file, header);
    for (const source of sorted) {
      for (let offset = 0; offset < source.byteLength; offset += piece.byteLength) {
        const part = piece.subarray(0, Math.min(piece.byteLength, source.byteLength - offset));
        await source.readInto(part, offset);
        await writeFully(file, part);
        progress.advance(part.byteLength);
      }
    }
    throwIfCancelled(options.signal, progress.task);
  });
  return header.byteLength + total;
}

function checkTensors(tensors: TensorSource[], path: string): TensorSource[] {
  const seen = new Set<string>();
  for (const { name, dtype, shape, byteLength } of tensors) {
    const where = `${path}: tensor ${JSON.stringify(name)}`;
    if (name === '__metadata__')
      throw invalid(`${path}: tensor name`, 'a name other than the reserved one', name);
    if (seen.has(name)) throw invalid(where, 'a name used once', prose('one used twice'));
    seen.add(name);
    const expected = byteLengthOf(where, checkDType(where, dtype), shape);
    if (byteLength !== expected)
      throw invalid(where, `${expected} bytes for ${dtype} [${shape.join(', ')}]`, byteLength);
  }
  return tensors.sort(compareTensors);
}

async function openFile(path: string): Promise<FileHandle> {
  try {
    // Before opening: a pipe would block until someone writes to it.
    if ((await stat(path)).isFile()) return await open(path, 'r');
  } catch (cause) {
    if (systemErrorCode(cause) === 'ENOENT')
      throw new EquipoiseError('missing', `${path}: no such file`, { cause });
    if (systemErrorCode(cause) === 'EACCES')
      throw new EquipoiseError('io', `${path}: permission denied`, { cause });
    throw cause;
  }
  throw invalid(path, 'a file', prose('a folder or device'));
}

/** Fills `target` from `position` on; returns the bytes read, fewer only at the end of the file. */
async function readFully(handle: FileHandle, target: Uint8Array, position: number): Promise<number> {
  let done = 0;
  while (done < target.byteLength) {
    const length = Math.min(PIECE_BYTES, target.byteLength - done);
    const { bytesRead } = await handle.read(target, done, length, position + done);
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  return done;
}

async function readUpTo(handle: FileHandle, position: number, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  return bytes.subarray(0, await readFully(handle, bytes, position));
}
