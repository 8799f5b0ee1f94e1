/** Finds and loads a native addon, and turns every failure into what to do about it. */
import fs from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { NativeAddon } from './binding.js';

/** `simt` is the CUDA sources compiled for the host, for tests (native/simt). */
export type DeviceKind = 'cpu' | 'cuda' | 'simt';

const packageRoot = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const loaded = new Map<DeviceKind, NativeAddon>();

/** Raised when an addon cannot be loaded; the message lists each place tried and a remedy. */
export class AddonLoadError extends Error {
  override readonly name = 'AddonLoadError';
}

/** Where the addon of a device is looked for: EQUIPOISE_NATIVE_DIR first, then the package's build folder. */
export function addonCandidates(kind: DeviceKind): string[] {
  const file = `equipoise_${kind}.node`;
  const folders = [process.env.EQUIPOISE_NATIVE_DIR, path.join(packageRoot, 'build', 'bin')];
  return folders.filter((d): d is string => Boolean(d)).map((d) => path.resolve(d, file));
}

/**
 * Loads the addon of a device, once per thread.
 * @throws AddonLoadError naming what was tried and how to get it.
 */
export function loadAddon(kind: DeviceKind): NativeAddon {
  const known = loaded.get(kind);
  if (known) return known;
  const failures: string[] = [];
  for (const file of addonCandidates(kind)) {
    if (!fs.existsSync(file)) {
      failures.push(`${path.basename(file)} is not in ${path.dirname(file)}`);
      continue;
    }
    try {
      const addon = createRequire(import.meta.url)(file) as NativeAddon;
      loaded.set(kind, addon);
      return addon;
    } catch (error) {
      failures.push(`${path.basename(file)}: ${(error as Error).message}`);
    }
  }
  throw new AddonLoadError(
    `the ${kind} addon could not be loaded:\n  ${failures.join('\n  ')}\n${remedy(kind, failures.join(' '))}`,
  );
}

function remedy(kind: DeviceKind, failures: string): string {
  if (/GLIBC/.test(failures))
    return 'It was built for a newer C library: run "npm run build:native" on this machine.';
  if (/wrong ELF class|invalid ELF|file too short|not a mach-o/i.test(failures))
    return 'The file is damaged or for another platform: run "npm run build:native".';
  if (kind === 'cuda')
    return 'Install the CUDA toolkit (nvcc) and run "npm run build:native"; the CPU device needs none.';
  return 'Run "npm run build:native" (needs CMake and a C++20 compiler).';
}
