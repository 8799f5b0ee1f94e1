/** Runs the kernels' tests on a device other than the CPU: the same files, each in a process of its own. */
import type { TestEngine } from '@equipoise/testing';
import t from 'tap';
import { deviceTestFiles, shortName } from './device-test-files.js';

/** Part of the files in other circumstances. */
export interface Variant {
  /** Added to the tests' names. */
  label: string;
  files: RegExp;
  env: Record<string, string>;
}

/** Seconds after which a file hangs, and is not merely on a slow machine: one takes a minute at most on two cores. */
const LIMIT = 1200;

/** Each file as a test of its own, named `<engine>: <file>`; all of them skipped where `skip` says why. */
export async function runOnDevice(engine: TestEngine, skip?: string, variant?: Variant): Promise<void> {
  const files = deviceTestFiles().filter((file) => !variant || variant.files.test(shortName(file)));
  if (files.length === 0) throw new Error(`no test's name matches ${variant?.files}`);
  for (const file of files) {
    const name = `${engine}: ${shortName(file)}${variant ? `, ${variant.label}` : ''}`;
    if (skip !== undefined) {
      t.test(name, { skip }, () => {});
      continue;
    }
    const args = ['--import=tsx', '--conditions=equipoise-source', file];
    const env = {
      ...process.env,
      ...variant?.env,
      EQUIPOISE_TEST_ENGINE: engine,
      TAP_TIMEOUT: String(LIMIT),
    };
    await t.spawn(process.execPath, args, { env, stdio: 'pipe', timeout: LIMIT * 1000 }, name);
  }
}
