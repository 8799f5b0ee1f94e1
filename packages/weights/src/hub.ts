/** Models by hub id: downloaded once into the standard Hugging Face cache, then used from there. */
import { copyFile, readdir, readFile, rm, symlink } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import {
  EquipoiseError,
  exists,
  invalid,
  type JobContext,
  makeFolder,
  nearest,
  ProgressCounter,
  systemErrorCode,
  withHints,
  writeFileAtomic,
} from '@equipoise/core';
import { downloadBlob, type HubFile, networkError } from './hub-download.js';
import { checkRepositoryName, type SelectOptions, selectModelFiles } from './hub-select.js';

export interface HubOptions extends JobContext, SelectOptions {
  /** Branch, tag or commit. Default `main`. */
  readonly revision?: string;
  /** Default: HF_HUB_CACHE, or where HF_HOME or XDG_CACHE_HOME puts it. */
  readonly cacheDir?: string;
  /** Use only what is in the cache. Default: whether HF_HUB_OFFLINE is set. */
  readonly offline?: boolean;
  /** Default: HF_ENDPOINT, or the public hub. */
  readonly hubUrl?: string;
  /** For private and gated repositories. Default: HF_TOKEN. */
  readonly accessToken?: string;
  /** For proxies and tests. */
  readonly fetch?: typeof fetch;
  /** Pause before a failed request is repeated. Default 1000. */
  readonly retryMs?: number;
}

const COMMIT = /^[0-9a-f]{40}$/;
const OID = /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/;
const MAX_FILES = 20_000;
/** Progress is reported about this often, in bytes. */
const REPORT_BYTES = 1 << 20;

/** Whether text has the form of a hub id: `owner/name`. */
export function isHubId(text: string): boolean {
  return (
    /^[A-Za-z0-9][\w.-]*\/[A-Za-z0-9][\w.-]*$/.test(text) && !text.includes('..') && !text.includes('--')
  );
}

/**
 * The folder of a model given as a path or a hub id. A folder that exists wins.
 *
 * @throws EquipoiseError as {@link fetchModel}; `missing` for what is neither
 */
export async function resolveModel(pathOrId: string, options: HubOptions = {}): Promise<string> {
  if (await exists(pathOrId)) return pathOrId;
  if (isHubId(pathOrId)) return fetchModel(pathOrId, options);
  throw new EquipoiseError(
    'missing',
    `${pathOrId === '' ? '""' : pathOrId}: expected a folder, or a hub id such as owner/name, got neither`,
  );
}

/**
 * Makes sure that a model is in the cache and returns its snapshot folder. Files that are there already are not
 * downloaded again; an interrupted download goes on where it stopped; every new file is checked against the hash
 * the hub announces.
 *
 * @throws EquipoiseError `network` when the hub cannot be reached or refuses; `missing` for unknown repositories
 * and revisions, and for uncached ones when offline; `unsafe` and `corrupt` for listings that cannot be trusted
 */
export async function fetchModel(id: string, options: HubOptions = {}): Promise<string> {
  if (!isHubId(id)) throw invalid('model', 'a hub id such as owner/name', id);
  const revision = options.revision ?? 'main';
  if (
    !/^[\w./-]+$/.test(revision) ||
    revision.split('/').some((part) => part === '' || part === '.' || part === '..')
  ) {
    throw invalid('revision', 'a branch, tag or commit', revision);
  }
  const hub = await import('@huggingface/hub');
  const cache = options.cacheDir ?? hub.getHFHubCachePath();
  const repository = join(cache, hub.getRepoFolderName({ type: 'model', name: id }));
  const offline = options.offline ?? /^(1|true|yes|on)$/i.test(process.env['HF_HUB_OFFLINE'] ?? '');
  if (offline) return cachedSnapshot(id, repository, revision);

  const request = {
    hubUrl: options.hubUrl ?? process.env['HF_ENDPOINT'] ?? hub.HUB_URL,
    accessToken: options.accessToken ?? process.env['HF_TOKEN'],
    fetch: abortable(options),
  };
  // Spread conditionally: the library takes an absent token, not an undefined one.
  const { accessToken, ...anonymous } = request;
  const params = accessToken === undefined ? anonymous : { ...anonymous, accessToken };
  let commit: string;
  let files: HubFile[];
  try {
    commit = await resolveCommit(hub, id, revision, params);
    files = await listRepository(hub, id, commit, params);
  } catch (error) {
    throw await explain(error, id, repository, revision);
  }
  const wanted = new Set(
    selectModelFiles(
      files.map((file) => file.path),
      options,
    ),
  );
  const selected = files.filter((file) => wanted.has(file.path));
  if (selected.length === 0) {
    throw new EquipoiseError(
      'missing',
      `${id}: expected a model's configs and safetensors, got ${files.length} other files`,
    );
  }
  const snapshot = join(repository, 'snapshots', commit);
  await download({ id, commit, repository, snapshot }, selected, options, request);
  if (revision !== commit) await writeFileAtomic(join(repository, 'refs', revision), commit);
  return snapshot;
}

type Hub = typeof import('@huggingface/hub');
interface Request {
  readonly hubUrl: string;
  readonly fetch: typeof fetch;
  readonly accessToken?: string;
}

function abortable(options: HubOptions): typeof fetch {
  const base = options.fetch ?? fetch;
  const { signal } = options;
  if (signal === undefined) return base;
  return (input, init) => base(input, { ...init, signal: init?.signal ?? signal });
}

async function resolveCommit(hub: Hub, id: string, revision: string, request: Request): Promise<string> {
  const info = (await hub.modelInfo({ name: id, revision, additionalFields: ['sha'], ...request })) as {
    sha?: unknown;
  };
  if (typeof info.sha === 'string' && COMMIT.test(info.sha)) return info.sha;
  throw invalid(`${id}: commit of revision ${revision}`, '40 hexadecimal digits', info.sha, {
    code: 'corrupt',
  });
}

async function listRepository(hub: Hub, id: string, commit: string, request: Request): Promise<HubFile[]> {
  const files: HubFile[] = [];
  for await (const entry of hub.listFiles({ repo: id, recursive: true, revision: commit, ...request })) {
    if (entry.type !== 'file') continue;
    checkRepositoryName(entry.path, id);
    const oid = entry.lfs?.oid ?? entry.oid;
    const size = entry.lfs?.size ?? entry.size;
    // The oid becomes a file name: nothing but digits may pass.
    if (oid === undefined || !OID.test(oid))
      throw invalid(`${id}: ${entry.path}: oid`, 'a hash', oid, { code: 'corrupt' });
    if (!Number.isSafeInteger(size) || size < 0)
      throw invalid(`${id}: ${entry.path}: size`, 'bytes', size, { code: 'corrupt' });
    files.push({ path: entry.path, size, oid });
    if (files.length > MAX_FILES)
      throw invalid(`${id}: files`, `at most ${MAX_FILES}`, 'more', { code: 'unsupported' });
  }
  return files;
}

async function download(
  { id, commit, repository, snapshot }: { id: string; commit: string; repository: string; snapshot: string },
  files: readonly HubFile[],
  options: HubOptions,
  request: { hubUrl: string; accessToken: string | undefined },
): Promise<void> {
  const total = files.reduce((sum, file) => sum + file.size, 0);
  const progress = new ProgressCounter(`download ${id}`, options, { total, unit: 'byte' });
  for (const file of files) {
    let pending = 0;
    const flush = (): void => {
      if (pending !== 0) progress.advance(pending, { file: file.path });
      pending = 0;
    };
    const onBytes = (count: number): void => {
      pending += count;
      if (Math.abs(pending) >= REPORT_BYTES) flush();
    };
    const pointer = join(snapshot, ...file.path.split('/'));
    if (await exists(pointer)) {
      onBytes(file.size);
    } else {
      const destination = join(repository, 'blobs', file.oid);
      const path = file.path.split('/').map(encodeURIComponent).join('/');
      await downloadBlob({
        url: `${request.hubUrl}/${id}/resolve/${commit}/${path}`,
        file,
        destination,
        accessToken: request.accessToken,
        signal: options.signal,
        fetch: options.fetch ?? fetch,
        onBytes,
        retryMs: options.retryMs ?? 1000,
      });
      await linkTo(destination, pointer);
    }
    flush();
  }
}

/** The snapshot's entry: a relative link into blobs, as the Python library makes it; a copy where links fail. */
async function linkTo(blob: string, pointer: string): Promise<void> {
  await makeFolder(dirname(pointer));
  await rm(pointer, { force: true });
  try {
    await symlink(relative(dirname(pointer), blob), pointer);
  } catch (error) {
    if (!['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS'].includes(systemErrorCode(error) ?? '')) throw error;
    await copyFile(blob, pointer);
  }
}

/** The snapshot a revision stands for, from the cache alone. */
async function cachedSnapshot(id: string, repository: string, revision: string): Promise<string> {
  const commit = COMMIT.test(revision) ? revision : await cachedCommit(repository, revision);
  if (commit !== undefined && (await exists(join(repository, 'snapshots', commit)))) {
    return join(repository, 'snapshots', commit);
  }
  const known = await readdir(join(repository, 'refs')).catch(() => []);
  const closest = nearest(revision, known);
  throw new EquipoiseError(
    'missing',
    `${id}: revision ${revision} is not in the cache, and offline mode is on`,
    {
      hints: [
        ...(closest === undefined ? [] : [`Cached: revision ${closest}.`]),
        'Go online once to download it, or give a folder.',
      ],
    },
  );
}

async function cachedCommit(repository: string, revision: string): Promise<string | undefined> {
  try {
    const text = (await readFile(join(repository, 'refs', ...revision.split('/')), 'utf8')).trim();
    return COMMIT.test(text) ? text : undefined;
  } catch {
    return undefined;
  }
}

/** Turns what the hub library throws into an error that says what to do. */
async function explain(
  error: unknown,
  id: string,
  repository: string,
  revision: string,
): Promise<EquipoiseError> {
  if (error instanceof EquipoiseError) return error;
  const status = (error as { statusCode?: unknown }).statusCode;
  if (status === 401 || status === 403) {
    return new EquipoiseError(
      'network',
      `${id}: the hub refused access (${status}): private, gated or misspelled`,
      {
        cause: error,
        hints: ['Accept its terms on its page and set HF_TOKEN to an access token, or check the name.'],
      },
    );
  }
  if (status === 404) {
    return new EquipoiseError('missing', `${id}: the hub has no such model, or no revision ${revision}`, {
      cause: error,
    });
  }
  if (error instanceof Error && error.name === 'AbortError') {
    return new EquipoiseError('cancelled', `download ${id}: cancelled`, { cause: error });
  }
  if (typeof status === 'number') {
    return new EquipoiseError('network', `${id}: the hub answered ${status}`, { cause: error });
  }
  const cached = await cachedSnapshot(id, repository, revision).catch(() => undefined);
  const hint = cached === undefined ? 'Check the connection.' : 'A copy is in the cache: use offline mode.';
  return withHints(networkError(id, error), hint);
}
