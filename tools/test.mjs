// `npm test`: installs and builds what is missing, runs every build, lint and test (cached by nx), and prints
// `N passed, M failed` alone on the last line. Exit status 0 only if something ran and nothing failed.
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { installedBin, main, root, setUp } from './lib/setup.mjs';
import { findWorkspaces } from './lib/workspaces.mjs';

const passedOn = process.argv.slice(2); // for instance --skip-nx-cache

/** Runs nx with its output shown; resolves with the names of the tasks that failed, or throws if nx itself broke. */
async function runTasks(targets) {
  const args = ['run-many', '-t', ...targets, '--output-style=static', '--nx-bail=false', ...passedOn];
  const env = {
    ...process.env,
    NX_NO_CLOUD: 'true',
    NX_DAEMON: 'false',
    NX_TUI: 'false',
    FORCE_COLOR: process.env.FORCE_COLOR ?? '0',
    TAP_REPORTER: process.env.TAP_REPORTER ?? 'terse',
  };
  const child = spawn(process.execPath, [installedBin('nx'), ...args], { cwd: root, env, stdio: 'inherit' });
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (status, signal) => resolve(signal ? 1 : status));
  });
}

/** Every workspace's recorded tests: counts, names of failures, skips, and what is missing. */
async function collect() {
  const { readTap } = await import('./lib/tap-results.mjs');
  const sum = { passed: 0, failed: 0, problems: [], skipped: [] };
  for (const workspace of findWorkspaces(root)) {
    if (!workspace.manifest.scripts?.test) continue;
    const results = readTap(path.join(workspace.folder, '.tap', 'results.tap'), workspace.testFiles);
    sum.passed += results.passed;
    sum.failed += results.failed;
    sum.problems.push(...results.problems.map((p) => `${workspace.name}: ${p}`));
    sum.skipped.push(...results.skipped.map((s) => ({ ...s, name: `${workspace.name}: ${s.name}` })));
  }
  return sum;
}

function printSkips(skipped) {
  const cuda = skipped.filter((s) => /cuda|gpu/i.test(s.reason) || /cuda/i.test(s.name));
  const others = skipped.filter((s) => !cuda.includes(s));
  if (cuda.length > 0) {
    console.log(`\n${cuda.length} CUDA test${cuda.length === 1 ? '' : 's'} skipped (no usable GPU here):`);
    for (const s of cuda) console.log(`  ${s.name}`);
  }
  if (others.length > 0) {
    console.log(`\n${others.length} other test${others.length === 1 ? '' : 's'} skipped:`);
    for (const s of others) console.log(`  ${s.name} (${s.reason || 'no reason given'})`);
  }
}

await main(async () => {
  const start = Date.now();
  setUp();
  // Results of an earlier run must not pass for those of this one; nx restores the files of cached tasks.
  for (const { folder } of findWorkspaces(root))
    fs.rmSync(path.join(folder, '.tap', 'results.tap'), { force: true });
  const status = await runTasks(['build:native', 'build', 'lint', 'test']);
  const { passed, failed, problems, skipped } = await collect();
  printSkips(skipped);
  if (problems.length > 0) console.log(`\nFailures:\n${problems.map((p) => `  ${p}`).join('\n')}`);
  // A build or lint that failed, or a test process that died after its last assertion, is a failure as well.
  const unaccounted = status !== 0 && failed === 0 ? 1 : 0;
  if (unaccounted) console.log('\nA task failed outside of any test: see "Failed tasks" above.');
  if (passed + failed === 0) console.log('\nNo test ran at all.');
  const failures = failed + unaccounted + (passed + failed === 0 && !unaccounted ? 1 : 0);
  console.log(`\nTook ${((Date.now() - start) / 1000).toFixed(0)} s.`);
  console.log(`${passed} passed, ${failures} failed`);
  return failures === 0 ? 0 : 1;
});
