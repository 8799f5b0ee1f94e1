/** What a run record says about the machine and the program. */
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { arch, availableParallelism, cpus, hostname, platform, release, totalmem } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** The state of the git checkout a run was started in. */
export interface GitState {
  readonly commit: string;
  readonly branch: string | null;
  /** Tracked files were changed. */
  readonly dirty: boolean;
}

/** Asks git about `folder`; null outside a checkout or without git. */
export async function gitState(folder: string): Promise<GitState | null> {
  const git = async (...args: string[]): Promise<string> => {
    const { stdout } = await run('git', ['-C', folder, ...args], { timeout: 10_000, maxBuffer: 1 << 26 });
    return stdout.trim();
  };
  try {
    const commit = await git('rev-parse', 'HEAD');
    const branch = await git('symbolic-ref', '--quiet', '--short', 'HEAD').catch(() => null);
    const changes = await git('status', '--porcelain', '--untracked-files=no');
    return { commit, branch, dirty: changes !== '' };
  } catch {
    return null;
  }
}

/** The machine, in a form that JSON holds. */
export function machineInfo(): Record<string, string | number> {
  return {
    host: hostname(),
    platform: `${platform()} ${release()}`,
    arch: arch(),
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: availableParallelism(),
    memoryBytes: totalmem(),
    node: process.version,
  };
}

/**
 * Installed versions of packages as `from` (an `import.meta.url`) would find them; those not installed are
 * left out.
 */
export async function packageVersions(
  names: readonly string[],
  from: string,
): Promise<Record<string, string>> {
  const versions: Record<string, string> = {};
  for (const name of names) {
    let folder = dirname(fileURLToPath(from));
    while (versions[name] === undefined) {
      try {
        const manifest = JSON.parse(
          await readFile(join(folder, 'node_modules', name, 'package.json'), 'utf8'),
        ) as {
          version?: string;
        };
        versions[name] = manifest.version ?? 'unknown';
      } catch {
        const parent = dirname(folder);
        if (parent === folder) break;
        folder = parent;
      }
    }
  }
  return versions;
}
