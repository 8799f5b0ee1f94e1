/** Where shared libraries that are opened at run time (never linked) would come from. */
import { execFile } from 'node:child_process';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

export interface LibraryStatus {
  readonly name: string;
  readonly purpose: string;
  /** Full path, or null when it was not found. */
  readonly path: string | null;
}

const LIBRARIES = [
  { name: 'libcuda', purpose: 'the NVIDIA driver; the CUDA device needs it' },
  { name: 'libcublasLt', purpose: 'plain matrix products on CUDA; built-in kernels serve without it' },
  { name: 'libcudnn', purpose: 'convolutions on CUDA; built-in kernels serve without it' },
] as const;

/** Looks for each library as the dynamic linker would: LD_LIBRARY_PATH, its cache, then CUDA's usual folders. */
export async function findLibraries(env: NodeJS.ProcessEnv = process.env): Promise<LibraryStatus[]> {
  const folders = [...(env.LD_LIBRARY_PATH ?? '').split(':').filter(Boolean)];
  const cached = await linkerCache();
  const usual = [env.CUDA_HOME, env.CUDA_PATH, '/usr/local/cuda']
    .filter((f): f is string => Boolean(f))
    .map((f) => join(f, 'lib64'));
  const before = await listLibraries(folders);
  const after = await listLibraries([
    ...usual,
    '/usr/lib/x86_64-linux-gnu',
    '/usr/lib/aarch64-linux-gnu',
    '/usr/lib64',
  ]);
  const found = [...before, ...cached, ...after];
  return LIBRARIES.map(({ name, purpose }) => {
    const pattern = new RegExp(`/${name}[.]so([.][0-9]+)*$`);
    return { name, purpose, path: found.find((path) => pattern.test(path)) ?? null };
  });
}

/** Paths in the dynamic linker's cache; empty where there is no ldconfig. */
async function linkerCache(): Promise<string[]> {
  for (const command of ['ldconfig', '/sbin/ldconfig']) {
    try {
      const { stdout } = await run(command, ['-p'], { maxBuffer: 1 << 24 });
      return [...stdout.matchAll(/=> (\S+)$/gm)].map((match) => match[1] as string);
    } catch {
      // Not on PATH for ordinary users on Debian, absent on musl.
    }
  }
  return [];
}

async function listLibraries(folders: readonly string[]): Promise<string[]> {
  const lists = await Promise.all(
    folders.map(async (folder) =>
      (await readdir(folder).catch(() => [])).sort().map((file) => join(folder, file)),
    ),
  );
  return lists.flat();
}
