import { createHash } from 'node:crypto';
import { readdir, readFile, readlink, writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import type { ProgressEvent } from '@equipoise/core';
import { fixturesOf } from '@equipoise/testing';
import t from 'tap';
import { fetchModel, type HubOptions, isHubId, openFolder, resolveModel } from './index.js';

const COMMIT = '0123456789abcdef0123456789abcdef01234567';
const ID = 'owner/tiny-model';
const pipeline = fixturesOf(import.meta.url, '../fixtures/pipeline');

interface Entry {
  readonly path: string;
  readonly bytes: Uint8Array;
  readonly lfs: boolean;
}

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
const gitBlob = (bytes: Uint8Array): string =>
  createHash('sha1').update(`blob ${bytes.byteLength}\0`).update(bytes).digest('hex');

function pipelineEntries(): Entry[] {
  return pipeline
    .names()
    .filter((name) => /\.(json|safetensors)$/.test(name))
    .map((path) => ({ path, bytes: pipeline.bytes(path), lfs: path.endsWith('.safetensors') }));
}

/** Answers a request itself, or leaves it to the ordinary behaviour by returning false. */
type Intercept = (request: IncomingMessage, response: ServerResponse) => boolean;

/** A hub on this machine that serves one model, with git and LFS files, ranges and a redirect to its store. */
class LocalHub {
  readonly requests: string[] = [];
  intercept: Intercept = () => false;
  listing: (entries: object[]) => object[] = (entries) => entries;
  entries = pipelineEntries();
  readonly #server = createServer((request, response) => this.#answer(request, response));
  url = '';

  async start(): Promise<this> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    this.url = `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  downloads(): string[] {
    return this.requests
      .filter((line) => line.includes('/resolve/'))
      .map((line) => line.slice(line.indexOf(COMMIT) + 41));
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    this.requests.push(`${request.url ?? ''} ${request.headers.range ?? ''}`.trim());
    if (this.intercept(request, response)) return;
    const path = decodeURIComponent((request.url ?? '').split('?')[0] as string);
    if (path === `/api/models/${ID}/revision/main` || path === `/api/models/${ID}/revision/${COMMIT}`) {
      this.#json(response, {
        _id: '1',
        id: ID,
        sha: COMMIT,
        private: false,
        lastModified: '2024-01-01T00:00:00Z',
      });
    } else if (path === `/api/models/${ID}/tree/${COMMIT}`) {
      const files = this.entries.map(({ path: name, bytes, lfs }) => ({
        type: 'file',
        path: name,
        size: bytes.byteLength,
        oid: lfs ? 'f'.repeat(40) : gitBlob(bytes),
        ...(lfs ? { lfs: { oid: sha256(bytes), size: bytes.byteLength, pointerSize: 130 } } : {}),
      }));
      this.#json(
        response,
        this.listing([{ type: 'directory', path: 'vae', size: 0, oid: '0'.repeat(40) }, ...files]),
      );
    } else if (path.startsWith(`/${ID}/resolve/${COMMIT}/`)) {
      response.writeHead(302, { location: `/store/${path.slice(`/${ID}/resolve/${COMMIT}/`.length)}` }).end();
    } else {
      this.#file(path.slice('/store/'.length), request, response);
    }
  }

  #json(response: ServerResponse, value: unknown): void {
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(value));
  }

  #file(path: string, request: IncomingMessage, response: ServerResponse): void {
    const bytes = this.entries.find((entry) => entry.path === path)?.bytes;
    if (bytes === undefined) {
      response.writeHead(404, { 'content-type': 'application/json' }).end('{"error":"not found"}');
      return;
    }
    const start = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0);
    const headers =
      start > 0 ? { 'content-range': `bytes ${start}-${bytes.byteLength - 1}/${bytes.byteLength}` } : {};
    response.writeHead(start > 0 ? 206 : 200, headers).end(bytes.subarray(start));
  }
}

const options = (hub: LocalHub, cacheDir: string, rest: Partial<HubOptions> = {}): HubOptions => ({
  hubUrl: hub.url,
  cacheDir,
  offline: false,
  retryMs: 1,
  ...rest,
});

t.test('a model is downloaded once into the standard cache layout, then opened', async (t) => {
  await using hub = await new LocalHub().start();
  const cache = t.testdir();
  const events: ProgressEvent[] = [];
  const folder = await fetchModel(
    ID,
    options(hub, cache, { variant: 'fp16', onProgress: (event) => events.push(event) }),
  );
  const repository = join(cache, 'models--owner--tiny-model');
  t.equal(folder, join(repository, 'snapshots', COMMIT));
  t.equal(await readFile(join(repository, 'refs/main'), 'utf8'), COMMIT);
  t.equal(
    await readlink(join(folder, 'model_index.json')),
    `../../blobs/${gitBlob(pipeline.bytes('model_index.json'))}`,
  );
  const vae = 'vae/diffusion_pytorch_model.safetensors';
  t.equal(await readlink(join(folder, vae)), `../../../blobs/${sha256(pipeline.bytes(vae))}`);
  t.ok(
    (await readdir(join(repository, 'blobs'))).every((name) => /^[0-9a-f]+$/.test(name)),
    'no locks or parts are left',
  );
  const last = events.at(-1);
  t.equal(last?.done, last?.total);
  t.match(events[0], { task: `download ${ID}`, done: 0, unit: 'byte' });

  const model = await openFolder(folder, { variant: 'fp16' });
  const unet = await model.component('unet');
  await using weights = await unet.openWeights();
  t.equal(weights.size, 208);

  const before = hub.downloads().length;
  t.equal(await fetchModel(ID, options(hub, cache, { variant: 'fp16' })), folder);
  t.equal(hub.downloads().length, before, 'nothing is downloaded twice');
  t.equal(await fetchModel(ID, options(hub, cache, { offline: true })), folder);
  t.equal(await fetchModel(ID, options(hub, cache, { offline: true, revision: COMMIT })), folder);
  t.equal(await resolveModel(ID, options(hub, cache, { offline: true })), folder);
  t.equal(await resolveModel(pipeline.folder), pipeline.folder);
});

t.test('a broken connection is resumed, within a run and across runs', async (t) => {
  await using hub = await new LocalHub().start();
  const cache = t.testdir();
  const path = 'vae/diffusion_pytorch_model.safetensors';
  const bytes = pipeline.bytes(path);
  let breaks = 2;
  hub.intercept = (request, response) => {
    if (!request.url?.startsWith(`/store/${path}`) || breaks-- <= 0) return false;
    const start = Number(/\d+/.exec(request.headers.range ?? '')?.[0] ?? 0);
    const headers = {
      'content-range': `bytes ${start}-${bytes.byteLength - 1}/${bytes.byteLength}`,
      'content-length': bytes.byteLength - start,
    };
    response.writeHead(start > 0 ? 206 : 200, headers);
    response.write(bytes.subarray(start, start + 5000), () => setTimeout(() => response.destroy(), 20));
    return true;
  };
  const folder = await fetchModel(ID, options(hub, cache, { components: ['vae'] }));
  t.ok((await readFile(join(folder, path))).equals(bytes));
  const ranges = hub.requests
    .filter((line) => line.startsWith(`/store/${path}`))
    .map((line) => line.split(' ')[1] ?? '');
  t.equal(ranges.length, 3);
  t.equal(ranges[0], '');
  t.match(ranges[2], /^bytes=\d+$|^bytes=\d+-$/);

  // An earlier process left part of another file; the server then refuses ranges: start over.
  const other = 'text_encoder/model.safetensors';
  const part = join(cache, 'models--owner--tiny-model/blobs', `${sha256(pipeline.bytes(other))}.incomplete`);
  await writeFile(part, pipeline.bytes(other).subarray(0, 100));
  hub.intercept = (request, response) => {
    if (!request.url?.startsWith(`/store/${other}`)) return false;
    response.writeHead(200).end(pipeline.bytes(other));
    return true;
  };
  const events: ProgressEvent[] = [];
  await fetchModel(
    ID,
    options(hub, cache, { components: ['text_encoder'], onProgress: (event) => events.push(event) }),
  );
  t.ok(hub.requests.includes(`/store/${other} bytes=100-`));
  t.ok((await readFile(join(folder, other))).equals(pipeline.bytes(other)));
  t.equal(events.at(-1)?.done, events.at(-1)?.total);
});

t.test('busy servers are asked again, and given up with a clear error', async (t) => {
  await using hub = await new LocalHub().start();
  let failures = 2;
  hub.intercept = (request, response) => {
    if (!request.url?.startsWith('/store/') || failures-- <= 0) return false;
    response.writeHead(503).end();
    return true;
  };
  await fetchModel(ID, options(hub, t.testdir(), { components: ['vae'] }));
  failures = Number.POSITIVE_INFINITY;
  const failing = fetchModel(ID, options(hub, t.testdir(), { components: ['vae'] }));
  await t.rejects(failing, { code: 'network', message: /: download failed: the server answered 503/ });
  hub.intercept = (request, response) => {
    if (!request.url?.startsWith('/store/')) return false;
    response.writeHead(403).end();
    return true;
  };
  const before = hub.requests.length;
  await t.rejects(fetchModel(ID, options(hub, t.testdir(), { components: ['vae'] })), {
    code: 'network',
    message: /answered 403/,
  });
  t.ok(hub.requests.length <= before + 4, 'a refusal is final');
});

t.test('contents that are not what was announced are deleted and refused', async (t) => {
  await using hub = await new LocalHub().start();
  const cache = t.testdir();
  const path = 'vae/diffusion_pytorch_model.safetensors';
  const corrupted = (bytes: Uint8Array): void => {
    hub.intercept = (request, response) => {
      if (!request.url?.startsWith(`/store/${path}`)) return false;
      response.writeHead(200).end(bytes);
      return true;
    };
  };
  corrupted(pipeline.bytes(path).map((byte, i) => (i === 999 ? byte ^ 1 : byte)));
  const damaged = { code: 'corrupt', message: /expected contents with hash/, hints: [/deleted; run again/] };
  await t.rejects(fetchModel(ID, options(hub, cache, { components: ['vae'] })), damaged);
  corrupted(new Uint8Array(pipeline.bytes(path).byteLength + 1));
  await t.rejects(fetchModel(ID, options(hub, cache, { components: ['vae'] })), {
    code: 'corrupt',
    message: /bytes, got more/,
  });
  await t.rejects(readFile(join(cache, 'models--owner--tiny-model/snapshots', COMMIT, path)), {
    code: 'ENOENT',
  });
  await t.rejects(
    readFile(join(cache, 'models--owner--tiny-model/refs/main')),
    { code: 'ENOENT' },
    'no ref to half a model',
  );
});

t.test('listings that reach outside are refused', async (t) => {
  await using hub = await new LocalHub().start();
  const file = (changes: object): object[] => [
    { type: 'file', path: 'config.json', size: 2, oid: 'a'.repeat(40), ...changes },
  ];
  const cases: [object, object][] = [
    [{ path: '../../evil.json' }, { code: 'unsafe', message: /expected a name inside the repository/ }],
    [{ path: '/etc/evil.json' }, { code: 'unsafe' }],
    [{ path: 'a\\..\\evil.json' }, { code: 'unsafe' }],
    [{ path: 'C:evil.json' }, { code: 'unsafe' }],
    [{ oid: '../../evil' }, { code: 'corrupt', message: /config\.json: oid: expected a hash/ }],
    [{ size: -1 }, { code: 'corrupt', message: /config\.json: size/ }],
  ];
  for (const [changes, error] of cases) {
    hub.listing = () => file(changes);
    await t.rejects(fetchModel(ID, options(hub, t.testdir())), error as Error, JSON.stringify(changes));
  }
  hub.listing = () => file({ path: 'README.md' });
  await t.rejects(fetchModel(ID, options(hub, t.testdir())), {
    code: 'missing',
    message: /got 1 other files/,
  });
});

t.test('refusals, absences and no network at all', async (t) => {
  await using hub = await new LocalHub().start();
  const cache = t.testdir();
  const answer = (status: number): void => {
    hub.intercept = (_, response) => {
      response.writeHead(status, { 'content-type': 'application/json' }).end('{"error":"no"}');
      return true;
    };
  };
  answer(401);
  await t.rejects(fetchModel(ID, options(hub, cache)), {
    code: 'network',
    message: /refused access \(401\)/,
    hints: [/HF_TOKEN/],
  });
  answer(404);
  await t.rejects(fetchModel(ID, options(hub, cache, { revision: 'v9' })), {
    code: 'missing',
    message: /no such model, or no revision v9/,
  });
  answer(500);
  await t.rejects(fetchModel(ID, options(hub, cache)), { code: 'network', message: /the hub answered 500/ });
  hub.intercept = () => false;
  const nowhere = options(hub, cache, { hubUrl: 'http://127.0.0.1:9' });
  await t.rejects(fetchModel(ID, nowhere), {
    code: 'network',
    message: /download failed/,
    hints: ['Check the connection.'],
  });
  await fetchModel(ID, options(hub, cache, { components: ['scheduler'] }));
  await t.rejects(fetchModel(ID, nowhere), {
    code: 'network',
    message: /./,
    hints: ['A copy is in the cache: use offline mode.'],
  });

  await t.rejects(fetchModel('a/b', options(hub, cache, { offline: true })), {
    code: 'missing',
    message: /offline mode is on/,
  });
  const cached = fetchModel(ID, options(hub, cache, { offline: true, revision: 'mian' }));
  await t.rejects(cached, {
    message: /revision mian is not in the cache/,
    hints: ['Cached: revision main.', /Go online/],
  });
  await t.rejects(fetchModel('nonsense', options(hub, cache)), { message: /^model: expected a hub id/ });
  await t.rejects(fetchModel(ID, options(hub, cache, { revision: '../x' })), {
    message: /^revision: expected a branch/,
  });
  await t.rejects(resolveModel('./no/such/place'), { code: 'missing', message: /a folder, or a hub id/ });
  for (const id of ['a/b', 'stabilityai/stable-diffusion-2-1-base', 'a/b.c_d']) t.ok(isHubId(id), id);
  for (const id of ['a', 'a/b/c', '../b', 'a/..', 'a--b/c', '/a', 'a/', '.a/b', 'a b/c'])
    t.notOk(isHubId(id), id);
});

t.test('cancelling keeps what has arrived', async (t) => {
  await using hub = await new LocalHub().start();
  const cache = t.testdir();
  const controller = new AbortController();
  const path = 'vae/diffusion_pytorch_model.safetensors';
  hub.intercept = (request, response) => {
    if (!request.url?.startsWith(`/store/${path}`)) return false;
    response.writeHead(200, { 'content-length': pipeline.bytes(path).byteLength });
    response.write(pipeline.bytes(path).subarray(0, 5000), () => setTimeout(() => controller.abort(), 50));
    return true;
  };
  const cancelled = fetchModel(ID, options(hub, cache, { components: ['vae'], signal: controller.signal }));
  await t.rejects(cancelled, { code: 'cancelled' });
  const blobs = join(cache, 'models--owner--tiny-model/blobs');
  const left = (await readdir(blobs)).filter((name) => name.endsWith('.incomplete'));
  t.equal(left.length, 1);
  t.equal((await readFile(join(blobs, left[0] as string))).byteLength, 5000);
});
