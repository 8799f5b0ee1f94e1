// TensorFlow.js's own op specs, strictly compared, against an Equipoise backend.
//
// Usage: npm run conformance -- [--scope must|nice|all] [--backend NAME] [--module FILE] [--grep RE] [--json FILE]
//                               [--hang SECONDS] [--no-build]
//   --scope    must: 104 files, 2,252 specs; nice (default): 178 files, 3,206 specs; all: every file
//   --backend  default equipoise-cpu; --module is what registers it
//   --json     writes every spec's outcome
// Prints the failures, then `conformance: P passed, F failed, M missing, S skipped of N` as its last line. A spec fails
// that fails, crashes, hangs, is never reported, or is served by another backend; it is missing when it asked for a
// kernel that is not registered. F also counts the problems of the run itself (too few specs, a stale skip, kernels
// absent or borrowed), so nothing but a believable run ends with 0 failed. Exit status 0, 1, or 2 when it cannot begin.
import fs from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { root, runOrThrow, setUp } from '../lib/setup.mjs';
import { judge, SCOPES } from './judge.mjs';
import { runSuite } from './run.mjs';

const read = (file) => JSON.parse(fs.readFileSync(new URL(file, import.meta.url), 'utf8'));

/** @throws Error that names the option, what was expected and what came */
function options(argv) {
  const string = { type: 'string' };
  const { values } = parseArgs({
    args: argv,
    options: {
      scope: { ...string, default: 'nice' },
      backend: { ...string, default: 'equipoise-cpu' },
      module: string,
      grep: string,
      json: string,
      hang: { ...string, default: '120' },
      'no-build': { type: 'boolean', default: false },
    },
  });
  if (!Object.hasOwn(SCOPES, values.scope))
    throw new Error(`--scope: expected ${Object.keys(SCOPES).join(', ')}, got ${values.scope}`);
  const hang = Number(values.hang);
  if (!(hang > 0)) throw new Error(`--hang: expected a positive number of seconds, got ${values.hang}`);
  if (values.grep !== undefined) new RegExp(values.grep);
  if (values.backend.includes('_'))
    throw new Error(
      `--backend: expected a name without '_' (TensorFlow.js splits kernel keys there), got ${values.backend}`,
    );
  const module = path.resolve(values.module ?? path.join(root, 'packages', 'backend', 'dist', 'index.js'));
  return { ...values, hang, module, build: !values['no-build'] && values.module === undefined };
}

/** Builds what the specs run on, so that they never prove an older state. */
function build() {
  setUp();
  runOrThrow(process.execPath, [path.join(root, 'tools', 'build-native.mjs')]);
  runOrThrow(process.execPath, [
    path.join(root, 'node_modules', 'typescript', 'bin', 'tsc'),
    '-b',
    path.join('packages', 'backend'),
  ]);
}

function print({ counts, specs, skipped, problems }) {
  const bad = specs.filter(({ status }) => status !== 'passed');
  for (const { status, key, message } of bad)
    console.log(`${status.toUpperCase()} ${key}\n    ${String(message).split('\n')[0].slice(0, 240)}`);
  for (const { key, reason } of skipped) console.log(`skipped ${key}: ${reason}`);
  for (const problem of problems) console.log(`NOT PROVEN: ${problem}`);
  console.log(`${counts.proven} of the passed specs ran kernels of the backend`);
  const failed = counts.failed + problems.length;
  console.log(
    `conformance: ${counts.passed} passed, ${failed} failed, ${counts.missing} missing, ${counts.skipped} skipped of ${counts.total}`,
  );
  return failed + counts.missing === 0 ? 0 : 1;
}

// Until proven otherwise, even if something calls process.exit().
process.exitCode = 2;
try {
  const { scope, backend, grep, json, hang, module, build: needsBuild } = options(process.argv.slice(2));
  if (needsBuild) build();
  const suite = read('./suite.json');
  // The Equipoise devices share their kernels' JavaScript.
  const siblings = ['equipoise-cpu', 'equipoise-cuda', 'equipoise-simt'].filter((name) => name !== backend);
  const config = { backend, module, siblings, suite, scope, grep, skips: read('./skips.json') };
  const verdict = judge(await runSuite(config, hang), suite, config);
  if (json) fs.writeFileSync(json, `${JSON.stringify(verdict, null, 1)}\n`);
  process.exitCode = print(verdict);
} catch (error) {
  console.error(error.message);
  console.log('conformance: 0 passed, 1 failed, 0 missing, 0 skipped of 0');
}
