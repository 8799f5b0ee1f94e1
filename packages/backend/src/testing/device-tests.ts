/** Runs the kernels' tests on a device other than the CPU: the same files, each in a process of its own. */
import type { TestEngine } from '@equipoise/testing';
import t from 'tap';
import { deviceTestFiles, shortName } from './device-test-files.js';

/** Each file as a test of its own, named `<engine>: <file>`; all of them skipped where `skip` says why. */
export async function runOnDevice(engine: TestEngine, skip?: string): Promise<void> {
  for (const file of deviceTestFiles()) {
    const name = `${engine}: ${shortName(file)}`;
    if (skip !== undefined) {
      t.test(name, { skip }, () => {});
      continue;
    }
    const args = ['--import=tsx', '--conditions=equipoise-source', file];
    const env = { ...process.env, EQUIPOISE_TEST_ENGINE: engine, TAP_TIMEOUT: '280' };
    await t.spawn(process.execPath, args, { env, stdio: 'pipe', timeout: 280_000 }, name);
  }
}
