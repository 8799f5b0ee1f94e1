/** Collects what `equipoise doctor` tells. */
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { type GitState, gitState, machineInfo, packageVersions } from '@equipoise/core';
import { addonCandidates, type DeviceDescription, type DeviceKind, loadAddon } from '@equipoise/native';
import { programVersion } from '../version.js';
import { findLibraries, type LibraryStatus } from './libraries.js';
import { type MemoryLimits, memoryLimits } from './limits.js';

const run = promisify(execFile);

export interface AddonStatus {
  readonly device: DeviceKind;
  /** The file that was loaded, or null. */
  readonly path: string | null;
  /** Why it cannot be used, and what to do; null when it can. */
  readonly problem: string | null;
  readonly description: DeviceDescription | null;
  /** Bytes this device may hold; null when it cannot be used. */
  readonly memoryLimitBytes: number | null;
}

export interface EngineStatus {
  readonly name: string;
  readonly usable: boolean;
  readonly detail: string;
}

/** The whole report; `equipoise doctor --json` prints it. */
export interface Diagnosis {
  readonly version: string;
  readonly git: GitState | null;
  readonly machine: Record<string, string | number>;
  /** First line of each tool's version; null for one that is not installed. */
  readonly tools: Record<string, string | null>;
  readonly packages: Record<string, string>;
  /** What the native build wrote about itself; null when nothing was built. */
  readonly build: Record<string, unknown> | null;
  readonly addons: readonly AddonStatus[];
  readonly libraries: readonly LibraryStatus[];
  readonly memory: MemoryLimits;
  readonly engines: readonly EngineStatus[];
  /** What keeps the CPU engine from working; empty when all is well. */
  readonly problems: readonly string[];
}

/** Looks at this machine and this installation. Never throws for something that is missing. */
export async function diagnose(): Promise<Diagnosis> {
  const build = await readBuild();
  const addons = [addonStatus('cpu', build), addonStatus('cuda', build)];
  const [git, tools, packages, libraries, memory] = await Promise.all([
    gitState(dirname(fileURLToPath(import.meta.url))),
    toolVersions(),
    packageVersions(['@tensorflow/tfjs-core', '@tensorflow/tfjs', 'sharp', 'zod'], import.meta.url),
    findLibraries(),
    memoryLimits(),
  ]);
  const cpu = addons[0] as AddonStatus;
  return {
    version: programVersion(),
    git,
    machine: machineInfo(),
    tools,
    packages,
    build,
    addons,
    libraries,
    memory,
    engines: engineStatus(addons),
    problems: cpu.problem === null ? [] : [cpu.problem],
  };
}

async function readBuild(): Promise<Record<string, unknown> | null> {
  for (const candidate of addonCandidates('cpu')) {
    try {
      return JSON.parse(await readFile(join(dirname(candidate), 'build.json'), 'utf8')) as Record<
        string,
        unknown
      >;
    } catch {
      // Not built into this folder.
    }
  }
  return null;
}

function addonStatus(device: DeviceKind, build: Record<string, unknown> | null): AddonStatus {
  const built = build?.[device] as { built?: boolean; reason?: string } | undefined;
  const absent = { device, path: null, description: null, memoryLimitBytes: null };
  if (built?.built === false)
    return {
      ...absent,
      problem: `not compiled when the addons were built: ${built.reason ?? 'no reason recorded'}`,
    };
  try {
    const addon = loadAddon(device);
    return {
      device,
      path: addonPath(device),
      problem: null,
      description: addon.describe(),
      memoryLimitBytes: addon.memory().limit,
    };
  } catch (error) {
    return { ...absent, problem: (error as Error).message };
  }
}

function addonPath(device: DeviceKind): string | null {
  const loaded = new Set(Object.keys(createRequire(import.meta.url).cache));
  return addonCandidates(device).find((file) => loaded.has(file)) ?? null;
}

async function toolVersions(): Promise<Record<string, string | null>> {
  const tools = {
    npm: 'npm',
    cmake: 'cmake',
    'c++': process.env.CXX ?? 'c++',
    nvcc: process.env.CUDACXX ?? 'nvcc',
  };
  const entries = Object.entries(tools).map(async ([name, command]) => {
    const { stdout } = await run(command, ['--version'], { timeout: 20_000 }).catch(() => ({ stdout: '' }));
    // nvcc says its name first and its release later.
    const line = /release [^\n]*/.exec(stdout)?.[0] ?? stdout.split('\n')[0] ?? '';
    return [name, line.trim() || null] as const;
  });
  return Object.fromEntries(await Promise.all(entries));
}

function engineStatus(addons: readonly AddonStatus[]): EngineStatus[] {
  const own = addons.map(({ device, problem, description }) => ({
    name: `equipoise-${device}`,
    usable: problem === null,
    detail: problem ?? description?.model ?? '',
  }));
  const optional = ['@tensorflow/tfjs-node-gpu', '@tensorflow/tfjs-node'].find(isInstalled);
  return [
    ...own,
    {
      name: 'tensorflow',
      usable: optional !== undefined,
      detail: optional ?? 'optional: npm install @tensorflow/tfjs-node (or @tensorflow/tfjs-node-gpu)',
    },
    {
      name: 'cpu',
      usable: isInstalled('@tensorflow/tfjs-backend-cpu'),
      detail: "TensorFlow.js's own plain JavaScript; slow, an oracle for tests",
    },
  ];
}

function isInstalled(name: string): boolean {
  try {
    // The backend package is what would load it.
    createRequire(createRequire(import.meta.url).resolve('@equipoise/backend')).resolve(name);
    return true;
  } catch {
    return false;
  }
}
