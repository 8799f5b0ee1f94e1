/** Runs the kernels' tests on a device other than the CPU: the same files, each in a process of its own. */
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { TEST_ENGINES } from '@equipoise/testing';
import t from 'tap';

const source = path.dirname(path.dirname(fileURLToPath(import.meta.url)));

/** The test files that run on whatever device is named: those that ask for it. */
export function deviceTestFiles(): string[] {
  const files = ['kernels', 'fused', '.']
    .flatMap((folder) => fs.readdirSync(path.join(source, folder)).map((name) => path.join(folder, name)))
    .filter((name) => name.endsWith('.test.ts'))
    .filter((name) =>
      /\b(testEngine|enginesUnderTest)\(/.test(fs.readFileSync(path.join(source, name), 'utf8')),
    );
  if (files.length < 8) throw new Error(`only ${files.length} tests of kernels: ${files}`);
  return files;
}

/** Each file as a test of its own, named `<engine>: <file>`; all of them skipped where `skip` says why. */
export async function runOnDevice(engine: (typeof TEST_ENGINES)[number], skip?: string): Promise<void> {
  for (const file of deviceTestFiles()) {
    const name = `${engine}: ${file}`;
    if (skip !== undefined) {
      t.test(name, { skip }, () => {});
      continue;
    }
    const args = ['--import=tsx', '--conditions=equipoise-source', path.join(source, file)];
    const env = { ...process.env, EQUIPOISE_TEST_ENGINE: engine, TAP_TIMEOUT: '280' };
    await t.spawn(process.execPath, args, { env, stdio: 'pipe', timeout: 280_000 }, name);
  }
}
