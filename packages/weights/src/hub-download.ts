/** One file from the hub: resumed after interruptions and verified before it is given its name. */
import { createHash, type Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, rename, rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import {
  acquireLock,
  EquipoiseError,
  exists,
  isCancelled,
  makeFolder,
  systemErrorCode,
  throwIfCancelled,
  writeFully,
} from '@equipoise/core';

/** A file as the hub lists it. */
export interface HubFile {
  readonly path: string;
  readonly size: number;
  /** SHA-256 of the contents for large files (64 digits), git's blob id for small ones (40 digits). */
  readonly oid: string;
}

export interface DownloadOptions {
  readonly url: string;
  readonly file: HubFile;
  /** Where the verified file goes: `blobs/<oid>`. */
  readonly destination: string;
  readonly accessToken?: string | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly fetch: typeof fetch;
  /** Told of every piece of new bytes, and of those found from an earlier attempt. */
  readonly onBytes: (count: number) => void;
  /** Pause before the first retry; doubled for each further one. */
  readonly retryMs: number;
}

const ATTEMPTS = 5;
/** A connection that brings nothing for this long is given up and tried again. */
const IDLE_MS = 60_000;

/**
 * Downloads to `<destination>.incomplete`, going on where an earlier attempt stopped, checks size and hash, and
 * renames. Does nothing when the destination exists.
 *
 * @throws EquipoiseError `network` after five attempts, `corrupt` when the contents are not what the hub
 * announced, `busy` when another process downloads the same file
 */
export async function downloadBlob(options: DownloadOptions): Promise<void> {
  const { destination, file } = options;
  await makeFolder(dirname(destination));
  const lock = await acquireLock(`${destination}.lock`);
  try {
    if (await exists(destination)) return options.onBytes(file.size);
    const partial = `${destination}.incomplete`;
    await retry(options, partial);
    await verify(partial, file);
    await rename(partial, destination);
  } finally {
    await lock.release();
  }
}

async function retry(options: DownloadOptions, partial: string): Promise<void> {
  let counted = 0;
  const count = (bytes: number): void => {
    counted += bytes;
    options.onBytes(bytes);
  };
  for (let attempt = 1; ; attempt++) {
    try {
      await receive(options, partial, count, counted);
      return;
    } catch (error) {
      throwIfCancelled(options.signal, `download ${options.file.path}`);
      if (isCancelled(error) && options.signal?.aborted) throw error;
      if (!isTransient(error) || attempt === ATTEMPTS) throw networkError(options.file.path, error);
      await delay(options.retryMs * 2 ** (attempt - 1), undefined, { signal: options.signal });
    }
  }
}

/** Status of an answer that is neither the file nor a part of it. */
class StatusError extends Error {
  constructor(readonly status: number) {
    super(`the server answered ${status}`);
  }
}

function isTransient(error: unknown): boolean {
  if (error instanceof StatusError) return error.status === 429 || error.status >= 500;
  if (error instanceof EquipoiseError) return false;
  const code = systemErrorCode(error);
  // A full disk or a folder without permission will not get better by asking the server again.
  return code === undefined || !/^(ENOSPC|EDQUOT|EACCES|EPERM|EROFS)$/.test(code);
}

async function receive(
  options: DownloadOptions,
  partial: string,
  count: (bytes: number) => void,
  counted: number,
): Promise<void> {
  const { file, accessToken } = options;
  let start = await sizeOf(partial);
  if (start > file.size) {
    await rm(partial, { force: true });
    start = 0;
  }
  // Bytes of an earlier run, or, after a restart from scratch, a step back.
  count(start - counted);
  if (start === file.size && (await exists(partial))) return;
  const idle = new AbortController();
  const signal = options.signal === undefined ? idle.signal : AbortSignal.any([options.signal, idle.signal]);
  const timer = setTimeout(() => idle.abort(new Error(`no data for ${IDLE_MS / 1000} s`)), IDLE_MS);
  try {
    const response = await options.fetch(options.url, {
      signal,
      headers: {
        // A compressed transfer could not be resumed by byte positions.
        'accept-encoding': 'identity',
        ...(start > 0 ? { range: `bytes=${start}-` } : {}),
        ...(accessToken === undefined ? {} : { authorization: `Bearer ${accessToken}` }),
      },
    });
    const resumed = start > 0 && response.status === 206 && rangeStart(response) === start;
    if (start > 0 && !resumed) {
      await rm(partial, { force: true });
      count(-start);
      start = 0;
      if (response.status === 416 || response.status === 206)
        throw new Error('the server cannot resume; starting over');
    }
    if (!response.ok || response.body === null) throw new StatusError(response.status);
    const output = await open(partial, resumed ? 'a' : 'w');
    try {
      let received = start;
      for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
        timer.refresh();
        received += chunk.byteLength;
        if (received > file.size) throw tooLong(file);
        await writeFully(output, chunk);
        count(chunk.byteLength);
      }
      await output.sync();
      if (received < file.size)
        throw new Error(`the connection ended after ${received} of ${file.size} bytes`);
    } finally {
      await output.close();
    }
  } finally {
    clearTimeout(timer);
  }
}

function rangeStart(response: Response): number {
  return Number(/^bytes (\d+)-/.exec(response.headers.get('content-range') ?? '')?.[1] ?? Number.NaN);
}

async function sizeOf(path: string): Promise<number> {
  try {
    return (await stat(path)).size;
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return 0;
    throw error;
  }
}

function tooLong(file: HubFile): EquipoiseError {
  return new EquipoiseError('corrupt', `${file.path}: expected ${file.size} bytes, got more`);
}

async function verify(partial: string, file: HubFile): Promise<void> {
  const { size } = await stat(partial);
  const expected = file.oid;
  let hash: Hash;
  if (expected.length === 64) hash = createHash('sha256');
  else hash = createHash('sha1').update(`blob ${size}\0`);
  for await (const chunk of createReadStream(partial, { highWaterMark: 1 << 20 }))
    hash.update(chunk as Buffer);
  const actual = hash.digest('hex');
  if (actual === expected) return;
  await rm(partial, { force: true });
  throw new EquipoiseError(
    'corrupt',
    `${file.path}: expected contents with hash ${expected}, got ${actual}`,
    {
      hints: ['The download was damaged on its way and was deleted; run again.'],
    },
  );
}

/** What went wrong with a request, in words. */
export function networkError(what: string, error: unknown): EquipoiseError {
  if (error instanceof EquipoiseError) return error;
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  const reason =
    cause instanceof Error ? cause.message || (systemErrorCode(cause) ?? cause.name) : String(cause);
  const isLocal = /^(ENOSPC|EDQUOT|EACCES|EPERM|EROFS)$/.test(systemErrorCode(error) ?? '');
  return new EquipoiseError(isLocal ? 'io' : 'network', `${what}: download failed: ${reason}`, {
    cause: error,
  });
}
