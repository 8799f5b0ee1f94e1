// Finds the tools a build needs. Plain Node built-ins: this runs before anything is installed.
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

export const MINIMUM_NODE = [20, 17];
export const MINIMUM_CMAKE = [3, 20];

/** A tool that is missing or too old; the message is one sentence that says what to install. */
export class ToolchainError extends Error {
  name = 'ToolchainError';
}

/** First candidate that runs and prints a version, or undefined. */
function find(...candidates) {
  return candidates.find((c) => c && spawnSync(c, ['--version'], { stdio: 'ignore' }).status === 0);
}

/** First line of what a command prints, or undefined when it does not run. */
function firstLine(command, ...args) {
  if (!command) return undefined;
  const result = spawnSync(command, args, { encoding: 'utf8' });
  return result.status === 0 ? result.stdout.split('\n')[0].trim() : undefined;
}

function older(version, minimum) {
  const [major = 0, minor = 0] = version;
  return major < minimum[0] || (major === minimum[0] && minor < minimum[1]);
}

/** @throws ToolchainError when this Node is too old */
export function checkNode() {
  if (older(process.versions.node.split('.').map(Number), MINIMUM_NODE)) {
    throw new ToolchainError(
      `Node ${process.versions.node} is too old: install Node ${MINIMUM_NODE.join('.')} or newer.`,
    );
  }
}

/**
 * The native toolchain: `{ cmake, compiler, generator }`.
 * @throws ToolchainError
 */
export function findToolchain() {
  const cmake = find('cmake');
  if (!cmake) {
    throw new ToolchainError(
      'CMake was not found: install CMake 3.20 or newer (Debian/Ubuntu: apt-get install cmake).',
    );
  }
  const version = /(\d+)\.(\d+)/.exec(firstLine(cmake, '--version') ?? '');
  if (version && older([Number(version[1]), Number(version[2])], MINIMUM_CMAKE)) {
    throw new ToolchainError(
      `CMake ${version[0]} is too old: install CMake ${MINIMUM_CMAKE.join('.')} or newer.`,
    );
  }
  const compiler = find(process.env.CXX, 'c++', 'g++', 'clang++');
  if (!compiler) {
    throw new ToolchainError(
      'No C++ compiler was found: install g++ 11 or clang 14 or newer (Debian/Ubuntu: apt-get install g++).',
    );
  }
  const probe = spawnSync(compiler, ['-std=c++20', '-x', 'c++', '-fsyntax-only', '-'], {
    input: '#include <bit>\n#include <concepts>\n',
    encoding: 'utf8',
  });
  if (probe.status !== 0) {
    throw new ToolchainError(`${compiler} does not compile C++20: install g++ 11 or clang 14 or newer.`);
  }
  const generator = find('ninja') ? 'Ninja' : find('make', 'gmake') ? 'Unix Makefiles' : undefined;
  if (!generator) {
    throw new ToolchainError(
      'Neither Ninja nor Make was found: install one (Debian/Ubuntu: apt-get install ninja-build or make).',
    );
  }
  return { cmake, compiler, generator };
}

/** Where nvcc is: $CUDACXX, or the first on PATH; undefined if there is none. */
export function nvccPath() {
  const folders = (process.env.PATH ?? '').split(path.delimiter).filter(Boolean);
  const candidates = [process.env.CUDACXX, ...folders.map((folder) => path.join(folder, 'nvcc'))];
  return candidates.find((file) => file && fs.existsSync(file));
}

/** Versions of everything a build or test result depends on besides the sources; null for what is absent. */
export function toolchainVersions() {
  const compiler = find(process.env.CXX, 'c++', 'g++', 'clang++');
  const nvcc = spawnSync(nvccPath() ?? 'nvcc', ['--version'], { encoding: 'utf8' });
  const gpus = spawnSync('nvidia-smi', ['--query-gpu=name,driver_version', '--format=csv,noheader'], {
    encoding: 'utf8',
  });
  return {
    node: process.version,
    platform: `${process.platform} ${process.arch}`,
    cmake: firstLine('cmake', '--version') ?? null,
    compiler: firstLine(compiler, '--version') ?? null,
    nvcc: nvcc.status === 0 ? (/release [^\n]*/.exec(nvcc.stdout)?.[0] ?? 'unknown') : null,
    gpus: gpus.status === 0 ? gpus.stdout.trim().split('\n').filter(Boolean) : [],
    clangFormat: firstLine(clangFormat(), '--version') ?? null,
    cpu: os.cpus()[0]?.model ?? 'unknown',
    cpuFeatures: cpuFeatures(),
  };
}

/** clang-format 19, under either name, or undefined: other versions format differently. */
export function clangFormat() {
  return ['clang-format-19', 'clang-format'].find((c) =>
    / version 19\./.test(firstLine(c, '--version') ?? ''),
  );
}

/** The instruction sets the engine chooses between, as Linux reports them. */
function cpuFeatures() {
  const line = /^flags\s*:(.*)$/m.exec(readCpuInfo())?.[1] ?? '';
  return line.split(' ').filter((f) => /^(avx2|fma|f16c|avx512(f|bw|dq|vl|_bf16)|amx_(tile|bf16))$/.test(f));
}

function readCpuInfo() {
  return fs.existsSync('/proc/cpuinfo') ? fs.readFileSync('/proc/cpuinfo', 'utf8') : '';
}
