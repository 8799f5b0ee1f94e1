/** Fixtures: files made by the reference libraries (tools/parity), committed next to the tests that use them. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { EquipoiseError, nearest, parseJson, systemErrorCode } from '@equipoise/core';

/** The fixtures of one package. */
export class Fixtures {
  /** Absolute path of the folder. */
  readonly folder: string;

  constructor(folder: string) {
    this.folder = folder;
  }

  path(name: string): string {
    return join(this.folder, name);
  }

  /**
   * The file's bytes, in a buffer of their own (aligned, so that typed arrays can view it).
   *
   * @throws EquipoiseError `missing` with the closest name there is
   */
  bytes(name: string): Uint8Array<ArrayBuffer> {
    try {
      return new Uint8Array(readFileSync(this.path(name)));
    } catch (error) {
      if (systemErrorCode(error) !== 'ENOENT') throw error;
      const closest = nearest(name, this.names());
      throw new EquipoiseError('missing', `fixture ${name}: no such file in ${this.folder}`, {
        cause: error,
        hints: [
          closest === undefined ? 'Make it with the scripts in tools/parity.' : `Did you mean ${closest}?`,
        ],
      });
    }
  }

  text(name: string): string {
    return new TextDecoder('utf-8', { fatal: true }).decode(this.bytes(name));
  }

  json<T>(name: string): T {
    return parseJson(this.text(name), this.path(name)) as T;
  }

  /** Raw little-endian float32 values. */
  float32(name: string): Float32Array {
    return new Float32Array(this.bytes(name).buffer);
  }

  names(): string[] {
    try {
      return readdirSync(this.folder, { recursive: true, encoding: 'utf8' });
    } catch {
      return [];
    }
  }
}

/** The fixtures of the package a test file belongs to: `fixturesOf(import.meta.url)` from `src/` or `dist/`. */
export function fixturesOf(testFile: string, folder = '../fixtures'): Fixtures {
  return new Fixtures(fileURLToPath(new URL(folder, testFile)));
}
