/**
 * One writer per folder: a lock file that names its owner, survives nothing but its owner, and is taken
 * over when the owner is dead.
 *
 * The owner renews the file every few seconds. A lock is stale when its process is gone (same machine) or
 * when it has not been renewed for a minute by the file server's own clock (another machine).
 */
import { randomBytes } from 'node:crypto';
import { link, readFile, rename, rm, stat, unlink, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { isProcessAlive, makeFolder } from './atomic.js';
import { EquipoiseError, systemErrorCode } from './errors.js';

const RENEW_MS = 5_000;
const STALE_AFTER_MS = 60_000;
/** Two processes that take over the same stale lock at once see within this time who came last. */
const SETTLE_MS = 50;

interface LockOwner {
  readonly pid: number;
  readonly host: string;
  /** Start of the process in clock ticks since boot, where the system tells; guards against reused ids. */
  readonly processStart: string | null;
  readonly nonce: string;
  readonly since: string;
}

/** A held lock; see {@link acquireLock}. */
export class FolderLock {
  readonly #timer: NodeJS.Timeout;
  readonly #lost = new AbortController();
  #renewal: Promise<void> = Promise.resolve();

  constructor(
    readonly path: string,
    private readonly owner: LockOwner,
  ) {
    this.#timer = setInterval(() => {
      this.#renewal = this.#renew();
    }, RENEW_MS);
    this.#timer.unref();
  }

  /** Aborted when another process has taken the lock, which happens only if this one stood still for long. */
  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  /** Gives the folder free. */
  async release(): Promise<void> {
    clearInterval(this.#timer);
    await this.#renewal;
    if ((await readOwner(this.path))?.nonce === this.owner.nonce) await rm(this.path, { force: true });
  }

  async #renew(): Promise<void> {
    try {
      if ((await readOwner(this.path))?.nonce === this.owner.nonce) {
        await replace(this.path, this.owner);
        return;
      }
    } catch {
      return; // A hiccup of the file system; the next renewal tells.
    }
    clearInterval(this.#timer);
    this.#lost.abort(new EquipoiseError('busy', `${this.path}: another process took over this folder`));
  }
}

/**
 * Locks `path` (a file in the folder to protect; the folder is created when missing).
 *
 * @throws EquipoiseError `busy` that names the process holding it
 */
export async function acquireLock(path: string): Promise<FolderLock> {
  const owner: LockOwner = {
    pid: process.pid,
    host: hostname(),
    processStart: await processStart(process.pid),
    nonce: randomBytes(8).toString('hex'),
    since: new Date().toISOString(),
  };
  await makeFolder(dirname(path));
  for (let attempt = 0; attempt < 3; attempt++) {
    if (await create(path, owner)) return new FolderLock(path, owner);
    const holder = await readOwner(path);
    if (holder === undefined) continue; // Released in between: try again.
    if (!(await isStale(path, holder))) throw busy(path, holder);
    if ((await readOwner(path))?.nonce !== holder.nonce) continue;
    await replace(path, owner);
    await delay(SETTLE_MS);
    const winner = await readOwner(path);
    if (winner?.nonce === owner.nonce) return new FolderLock(path, owner);
    if (winner !== undefined) throw busy(path, winner);
  }
  throw new EquipoiseError('busy', `${path}: several processes are competing for this folder`);
}

function busy(path: string, holder: LockOwner): EquipoiseError {
  const where = holder.host === hostname() ? '' : ` on ${holder.host}`;
  return new EquipoiseError(
    'busy',
    `${dirname(path)}: in use by process ${holder.pid}${where} since ${holder.since}`,
    {
      hints: ['Wait for it to end, stop it, or choose another folder.'],
    },
  );
}

async function temporaryBeside(path: string, owner: LockOwner): Promise<string> {
  const temporary = join(
    dirname(path),
    `.${basename(path)}.${process.pid}.${randomBytes(6).toString('hex')}.tmp`,
  );
  await writeFile(temporary, `${JSON.stringify(owner)}\n`, { flag: 'wx' });
  return temporary;
}

/** Creates the lock with its contents in one step; false when it exists. */
async function create(path: string, owner: LockOwner): Promise<boolean> {
  const temporary = await temporaryBeside(path, owner);
  try {
    await link(temporary, path);
    return true;
  } catch (error) {
    const code = systemErrorCode(error);
    if (code === 'EEXIST') return false;
    if (code !== 'EPERM' && code !== 'ENOTSUP' && code !== 'EOPNOTSUPP') throw error;
  } finally {
    await unlink(temporary).catch(() => undefined);
  }
  // File systems without hard links: the contents follow the creation by an instant.
  try {
    await writeFile(path, `${JSON.stringify(owner)}\n`, { flag: 'wx' });
    return true;
  } catch (error) {
    if (systemErrorCode(error) === 'EEXIST') return false;
    throw error;
  }
}

async function replace(path: string, owner: LockOwner): Promise<void> {
  await rename(await temporaryBeside(path, owner), path);
}

const UNREADABLE: LockOwner = { pid: 0, host: '', processStart: null, nonce: '', since: 'an unknown time' };

async function readOwner(path: string): Promise<LockOwner | undefined> {
  try {
    const owner = JSON.parse(await readFile(path, 'utf8')) as Partial<LockOwner> | null;
    return typeof owner?.pid === 'number' && typeof owner.nonce === 'string'
      ? { ...UNREADABLE, ...owner }
      : UNREADABLE;
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return undefined;
    if (error instanceof SyntaxError) return UNREADABLE;
    throw error;
  }
}

async function isStale(path: string, holder: LockOwner): Promise<boolean> {
  if (holder.host === hostname()) {
    if (!isProcessAlive(holder.pid)) return true;
    const start = await processStart(holder.pid);
    return start !== null && holder.processStart !== null && start !== holder.processStart;
  }
  // Compare two times of the same file server: that of the lock and that of a file written now.
  const probe = await temporaryBeside(path, holder);
  try {
    const [now, renewed] = await Promise.all([stat(probe), stat(path)]);
    return now.mtimeMs - renewed.mtimeMs > STALE_AFTER_MS;
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return false;
    throw error;
  } finally {
    await unlink(probe).catch(() => undefined);
  }
}

/** Start time of a process in clock ticks since boot (Linux), else null. */
async function processStart(pid: number): Promise<string | null> {
  try {
    const text = await readFile(`/proc/${pid}/stat`, 'utf8');
    // The command name, in parentheses, may hold spaces: fields count from behind it.
    return text.slice(text.lastIndexOf(')') + 2).split(' ')[19] ?? null;
  } catch {
    return null;
  }
}
