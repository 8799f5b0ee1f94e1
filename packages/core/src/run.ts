/**
 * Run folders: every long job owns a folder with one `run.json` that says what was asked, with what program,
 * on what machine and how long it took; a killed job started again in the same folder goes on.
 */
import { readFile } from 'node:fs/promises';
import { join, resolve, sep } from 'node:path';
import { makeFolder, removeStaleTemporaries, writeJsonAtomic } from './atomic.js';
import { type GitState, gitState, machineInfo } from './environment.js';
import { describe, EquipoiseError, invalid, systemErrorCode } from './errors.js';
import { canonicalJson, type JsonValue, parseJson } from './json.js';
import { acquireLock, type FolderLock } from './lock.js';

const RECORD = 'run.json';
const LOCK = '.run.lock';
const FORMAT = 1;

type JsonObject = { readonly [key: string]: JsonValue | undefined };

/** What a job declares about itself when it opens its folder. */
export interface RunSpec {
  /** The job: `'iti-gen train'`. */
  readonly command: string;
  /** Resolved options, defaults filled in. */
  readonly options: JsonObject;
  /** Option keys that do not change results (device, batch size, …): they may differ when a run resumes. */
  readonly free?: readonly string[];
  readonly seeds?: Readonly<Record<string, number | bigint>>;
  /** Content hashes of what the job reads (model, data): a change makes it another run. */
  readonly inputs?: Readonly<Record<string, string>>;
  /** Brings what an earlier version of the program recorded up to date before it is compared; may refuse it. */
  readonly upgrade?: (earlier: RunRecord) => RunRecord;
  /** What computes: engine, device, driver. */
  readonly device?: JsonObject;
  readonly packages?: Readonly<Record<string, string>>;
  readonly argv?: readonly string[];
  /** Whose git state is recorded. Default: the current folder. */
  readonly checkout?: string;
}

/** One start of the program on this run. */
export interface RunSession {
  readonly argv: readonly string[];
  readonly startedAt: string;
  readonly endedAt?: string;
  readonly outcome: 'running' | 'finished' | 'failed' | 'cancelled' | 'stopped';
  readonly error?: string;
  readonly git: GitState | null;
  readonly device: JsonObject;
  readonly machine: JsonObject;
  readonly packages: Readonly<Record<string, string>>;
  /** Seconds and calls by name of what was timed. */
  readonly timings: Readonly<Record<string, { readonly seconds: number; readonly count: number }>>;
}

/** The contents of `run.json`. */
export interface RunRecord {
  readonly format: number;
  readonly command: string;
  readonly options: JsonObject;
  readonly seeds: Readonly<Record<string, string>>;
  readonly inputs: Readonly<Record<string, string>>;
  readonly status: RunSession['outcome'];
  readonly sessions: readonly RunSession[];
}

/** An open run folder; close it with {@link finish}, {@link fail} or {@link stop}. */
export class Run {
  /** True when the folder held an earlier session of the same run. */
  readonly resumed: boolean;
  #record: RunRecord;
  readonly #lock: FolderLock;
  readonly #timings: Record<string, { seconds: number; count: number }> = {};

  private constructor(
    readonly folder: string,
    record: RunRecord,
    lock: FolderLock,
  ) {
    this.#record = record;
    this.#lock = lock;
    this.resumed = record.sessions.length > 1;
  }

  /**
   * Locks `folder` (created when missing), checks that it is empty of other runs, and records the start.
   *
   * @throws EquipoiseError `busy` when another process uses the folder; `conflict` when it belongs to a
   * different run, listing every difference; `corrupt` when its run.json is unreadable
   */
  static async open(folder: string, spec: RunSpec): Promise<Run> {
    const path = resolve(folder);
    await makeFolder(path);
    const lock = await acquireLock(join(path, LOCK));
    try {
      await removeStaleTemporaries(path);
      const fresh = newRecord(spec);
      const earlier = await readRunRecord(path);
      if (earlier !== undefined)
        refuseDifferentRun(path, spec.upgrade?.(earlier) ?? earlier, fresh, spec.free ?? []);
      const session = await newSession(spec);
      const sessions = [...(earlier?.sessions ?? []).map(closeKilled), session];
      const run = new Run(path, { ...fresh, sessions }, lock);
      await run.#save();
      return run;
    } catch (error) {
      await lock.release();
      throw error;
    }
  }

  get record(): RunRecord {
    return this.#record;
  }

  /** Aborted if another process takes the folder over. */
  get lost(): AbortSignal {
    return this.#lock.lost;
  }

  /** A path inside the folder; refuses names that leave it. */
  path(...parts: readonly string[]): string {
    const path = resolve(this.folder, ...parts);
    if (path !== this.folder && !path.startsWith(this.folder + sep)) {
      throw invalid('path', `a name inside ${this.folder}`, parts.join('/'), { code: 'unsafe' });
    }
    return path;
  }

  /** Runs `work` and adds its wall time to the record under `name`. */
  async time<T>(name: string, work: () => Promise<T> | T): Promise<T> {
    const start = performance.now();
    try {
      return await work();
    } finally {
      const { seconds, count } = this.#timings[name] ?? { seconds: 0, count: 0 };
      this.#timings[name] = { seconds: seconds + (performance.now() - start) / 1000, count: count + 1 };
    }
  }

  /** Writes the timings so far; call it at checkpoints. */
  async checkpoint(): Promise<void> {
    await this.#update({});
  }

  /** Records success and unlocks. */
  async finish(): Promise<void> {
    await this.#close('finished');
  }

  /** Records an orderly stop before the end (the run can go on later) and unlocks. */
  async stop(): Promise<void> {
    await this.#close('stopped');
  }

  /**
   * Records an error (`cancelled` for a cancelled one) and unlocks. Never throws: the caller is about to throw `error`,
   * which tells more than that a full disk, say, takes no record of it either.
   */
  async fail(error: unknown): Promise<void> {
    const cancelled = error instanceof EquipoiseError && error.code === 'cancelled';
    const message = error instanceof Error ? error.message : String(error);
    await this.#close(cancelled ? 'cancelled' : 'failed', message).catch(() => undefined);
  }

  async #close(outcome: RunSession['outcome'], error?: string): Promise<void> {
    try {
      await this.#update({
        outcome,
        endedAt: new Date().toISOString(),
        ...(error === undefined ? {} : { error }),
      });
    } finally {
      await this.#lock.release();
    }
  }

  async #update(changes: Partial<RunSession>): Promise<void> {
    if (this.#lock.lost.aborted) throw this.#lock.lost.reason;
    const current = this.#record.sessions.at(-1) as RunSession;
    const session: RunSession = { ...current, timings: structuredClone(this.#timings), ...changes };
    this.#record = {
      ...this.#record,
      status: session.outcome,
      sessions: [...this.#record.sessions.slice(0, -1), session],
    };
    await this.#save();
  }

  async #save(): Promise<void> {
    await writeJsonAtomic(join(this.folder, RECORD), this.#record as unknown as JsonValue, {
      sortKeys: false,
    });
  }
}

/**
 * Reads a folder's run.json without locking; undefined when there is none.
 *
 * @throws EquipoiseError `corrupt`
 */
export async function readRunRecord(folder: string): Promise<RunRecord | undefined> {
  const path = join(folder, RECORD);
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes(systemErrorCode(error) ?? '')) return undefined;
    throw error;
  }
  const record = parseJson(text, path) as Partial<RunRecord> | null;
  if (record?.format !== FORMAT) {
    throw invalid(`${path}: format`, String(FORMAT), record?.format, { code: 'corrupt' });
  }
  if (
    typeof record.command !== 'string' ||
    typeof record.options !== 'object' ||
    !Array.isArray(record.sessions)
  ) {
    throw invalid(path, 'a run record with command, options and sessions', record, { code: 'corrupt' });
  }
  return record as RunRecord;
}

function newRecord(spec: RunSpec): RunRecord {
  const seeds = Object.entries(spec.seeds ?? {}).map(([name, seed]) => [name, String(seed)] as const);
  return {
    format: FORMAT,
    command: spec.command,
    options: spec.options,
    seeds: Object.fromEntries(seeds),
    inputs: spec.inputs ?? {},
    status: 'running',
    sessions: [],
  };
}

async function newSession(spec: RunSpec): Promise<RunSession> {
  return {
    argv: spec.argv ?? process.argv.slice(2),
    startedAt: new Date().toISOString(),
    outcome: 'running',
    git: await gitState(spec.checkout ?? process.cwd()),
    device: spec.device ?? {},
    machine: machineInfo(),
    packages: spec.packages ?? {},
    timings: {},
  };
}

/** We hold the lock, so a session still marked as running was killed. */
function closeKilled(session: RunSession): RunSession {
  return session.outcome === 'running'
    ? { ...session, outcome: 'failed', error: 'the process was killed' }
    : session;
}

function refuseDifferentRun(
  folder: string,
  earlier: RunRecord,
  now: RunRecord,
  free: readonly string[],
): void {
  const keep = (options: JsonObject): JsonObject =>
    Object.fromEntries(Object.entries(options).filter(([key]) => !free.includes(key)));
  const identity = (record: RunRecord): JsonObject => ({
    command: record.command,
    ...prefixed('option', keep(record.options)),
    ...prefixed('seed', record.seeds ?? {}),
    ...prefixed('input', record.inputs ?? {}),
  });
  const before = identity(earlier);
  const after = identity(now);
  const keys = [...new Set([...Object.keys(before), ...Object.keys(after)])];
  const differences = keys
    .filter((key) => canonicalJson(before[key] ?? null) !== canonicalJson(after[key] ?? null))
    .map((key) => `  ${key}: ${describe(before[key])} in the folder, ${describe(after[key])} now`);
  if (differences.length === 0) return;
  throw new EquipoiseError('conflict', [`${folder}: holds a different run`, ...differences].join('\n'), {
    hints: ['Choose another folder, or repeat the earlier settings to go on with that run.'],
  });
}

function prefixed(kind: string, values: JsonObject): JsonObject {
  return Object.fromEntries(Object.entries(values).map(([key, value]) => [`${kind} ${key}`, value]));
}
