/**
 * Files that are either whole or absent: written beside their destination under a temporary name, flushed
 * to the disk, then renamed.
 */
import { randomBytes } from 'node:crypto';
import { type FileHandle, mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { EquipoiseError, systemErrorCode } from './errors.js';
import { type JsonValue, type PythonJsonOptions, pythonJson } from './json.js';

/** Bytes, text, or a function that writes to the temporary file's handle. */
export type AtomicContent = Uint8Array | string | ((file: FileHandle) => Promise<void>);

const TEMPORARY = /^\..+\.(\d+)\.[0-9a-f]{12}\.tmp$/;

/**
 * Writes `path` atomically; its folder is created when missing. On any failure, a full disk included, the
 * old file stays as it was and nothing new is left behind. Devices, pipes and folders are not replaced.
 *
 * @throws EquipoiseError `io` that names the file and the reason; what a content function throws itself
 * (other than a system error) passes through unchanged
 */
export async function writeFileAtomic(path: string, content: AtomicContent): Promise<void> {
  const folder = dirname(path);
  const temporary = join(folder, temporaryName(basename(path)));
  try {
    await makeFolders(folder);
    await checkReplaceable(path);
    const file = await open(temporary, 'wx');
    try {
      if (typeof content === 'function') await content(file);
      else await file.writeFile(content);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
    await syncFolder(folder);
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => undefined);
    throw writeError(path, error);
  }
}

/** Throws unless there is nothing, or a file: a rename would put a file in the place of a device such as /dev/null. */
async function checkReplaceable(path: string): Promise<void> {
  const info = await stat(path).catch((error: unknown) => {
    if (systemErrorCode(error) === 'ENOENT') return undefined;
    throw error;
  });
  if (info === undefined || info.isFile()) return;
  const code = info.isDirectory() ? 'EISDIR' : 'ENOTFILE';
  throw Object.assign(new Error(`${code}: no file, ${path}`), { code });
}

const temporaryName = (name: string): string =>
  `.${name}.${process.pid}.${randomBytes(6).toString('hex')}.tmp`;

/**
 * Fills a folder, which is created when missing, all or nothing: `fill` writes into a temporary one, whose files are
 * moved when all of them are there and none of their places is taken by something else, those of subfolders first. Files
 * of the same names are replaced and others stay. On any failure before that the folder is as it was.
 *
 * @param replace called before files are moved into a folder that exists, to remove what they stand for
 * @returns what `fill` returns
 * @throws what `fill` and `replace` throw, with the folder's path for the temporary one's; EquipoiseError `io`
 */
export async function fillFolderAtomic<T>(
  path: string,
  fill: (folder: string) => Promise<T>,
  replace: (filled: T) => Promise<void> = async () => undefined,
): Promise<T> {
  const whole = resolve(path);
  // Inside a folder that exists, for it may be of another file system than the one above it.
  const present = await isFolder(whole).catch((error: unknown) => Promise.reject(writeError(path, error)));
  const temporary = join(present ? whole : dirname(whole), temporaryName(basename(whole)));
  try {
    await makeFolder(temporary);
    const filled = await fill(temporary);
    if (present) {
      await checkMovable(temporary, whole);
      await replace(filled);
      await moveFiles(temporary, whole);
    } else {
      await rename(temporary, whole);
    }
    return filled;
  } catch (error) {
    if (error instanceof Error) error.message = error.message.replaceAll(temporary, path);
    throw writeError(path, error);
  } finally {
    await rm(temporary, { recursive: true, force: true }).catch(() => undefined);
  }
}

/** Throws where {@link moveFiles} would meet a file in the place of a folder, or anything but a file in that of one. */
async function checkMovable(from: string, to: string): Promise<void> {
  for (const entry of await readdir(from, { withFileTypes: true })) {
    const target = join(to, entry.name);
    try {
      if (!entry.isDirectory()) await checkReplaceable(target);
      else if (await isFolder(target)) await checkMovable(join(from, entry.name), target);
    } catch (error) {
      throw writeError(target, error);
    }
  }
}

/** Moves what is below `from` to the same places below `to`. */
async function moveFiles(from: string, to: string): Promise<void> {
  const entries = await readdir(from, { withFileTypes: true });
  for (const entry of entries) {
    if (!entry.isDirectory()) continue;
    await makeFolder(join(to, entry.name));
    await moveFiles(join(from, entry.name), join(to, entry.name));
  }
  for (const entry of entries) {
    if (!entry.isDirectory()) await rename(join(from, entry.name), join(to, entry.name));
  }
  await syncFolder(to);
}

/** {@link writeFileAtomic} of {@link pythonJson} with a trailing newline. */
export async function writeJsonAtomic(
  path: string,
  value: JsonValue,
  options: PythonJsonOptions = {},
): Promise<void> {
  await writeFileAtomic(path, pythonJson(value, { newline: true, ...options }));
}

/** Writes all of `data` at the file's current position or at `position`; a short write is continued. */
export async function writeFully(file: FileHandle, data: Uint8Array, position?: number): Promise<void> {
  let written = 0;
  while (written < data.byteLength) {
    const at = position === undefined ? null : position + written;
    const { bytesWritten } = await file.write(data, written, data.byteLength - written, at);
    written += bytesWritten;
  }
}

/**
 * Removes temporary files and folders that writers left in `folder` because their process was killed;
 * those of live processes stay. Returns the names removed.
 */
export async function removeStaleTemporaries(folder: string): Promise<string[]> {
  const removed: string[] = [];
  for (const name of await readdir(folder)) {
    const match = TEMPORARY.exec(name);
    if (match === null || isProcessAlive(Number(match[1]))) continue;
    await rm(join(folder, name), { recursive: true, force: true });
    removed.push(name);
  }
  return removed;
}

/** Whether a process with this id exists on this machine. */
export function isProcessAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // EPERM: it exists and belongs to someone else.
    return systemErrorCode(error) === 'EPERM';
  }
}

/**
 * Makes a folder and those above it, where they are missing.
 *
 * @throws EquipoiseError `io` that names the folder and the reason
 */
export async function makeFolder(path: string): Promise<void> {
  try {
    await makeFolders(path);
  } catch (error) {
    throw writeError(path, error);
  }
}

/**
 * Node's own `recursive` never ends where a folder that exists answers ENOENT to a new entry, as those below /proc do:
 * it makes the folder above, which is there, and tries again.
 */
async function makeFolders(path: string): Promise<void> {
  const missing: string[] = [];
  for (let at = resolve(path); !(await isFolder(at)); at = dirname(at)) missing.push(at);
  for (const folder of missing.reverse()) {
    await mkdir(folder).catch(async (error: unknown) => {
      // Another process may have made it in between.
      if (systemErrorCode(error) !== 'EEXIST' || !(await isFolder(folder))) throw error;
    });
  }
}

/** False where nothing exists; what is no folder is an error. */
async function isFolder(path: string): Promise<boolean> {
  if (!(await exists(path))) return false;
  if ((await stat(path)).isDirectory()) return true;
  throw Object.assign(new Error(`ENOTDIR: not a folder, ${path}`), { code: 'ENOTDIR' });
}

/** Whether anything exists at `path`. */
export async function exists(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT' || systemErrorCode(error) === 'ENOTDIR') return false;
    throw error;
  }
}

async function syncFolder(folder: string): Promise<void> {
  // Makes the rename itself durable. Some file systems refuse to sync a folder; the data is safe anyway.
  try {
    const handle = await open(folder, 'r');
    await handle.sync().finally(() => handle.close());
  } catch (error) {
    if (!['EINVAL', 'EPERM', 'EISDIR', 'EACCES', 'ENOTSUP'].includes(systemErrorCode(error) ?? ''))
      throw error;
  }
}

const REASONS: Record<string, string> = {
  ENOSPC: 'the disk is full',
  EDQUOT: 'the disk quota is used up',
  EFBIG: 'the file would exceed the size limit',
  EACCES: 'permission denied',
  EPERM: 'not permitted',
  EROFS: 'the file system is read-only',
  ENOENT: 'the folder it would be in takes no new entries, or is gone',
  ENOTDIR: 'a part of the path is not a folder',
  EISDIR: 'a folder of that name exists',
  ENOTFILE: 'what is there is a device or pipe, no file',
  EEXIST: 'something of that name exists',
  ELOOP: 'its links lead in a circle',
  ENAMETOOLONG: 'the name is too long',
};

/** A system error of writing `path` as an EquipoiseError `io` that says why; anything else as it is. */
export function writeError(path: string, error: unknown): unknown {
  const code = systemErrorCode(error);
  if (error instanceof EquipoiseError || code === undefined || !/^E[A-Z0-9]+$/.test(code)) return error;
  const reason = REASONS[code] ?? (error instanceof Error ? error.message : code);
  const hints =
    code === 'ENOSPC' || code === 'EDQUOT'
      ? ['Free some space and run again; no partial file was left.']
      : [];
  return new EquipoiseError('io', `${path}: cannot write: ${reason}`, { cause: error, hints });
}
