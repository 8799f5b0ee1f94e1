// Runs the kernels' tests on a device, a process a file, and writes what each gave as JSON.
// Usage: node --import=tsx --conditions=equipoise-source tools/gpu/run-tests.mjs --engine NAME --json FILE
//          [--jobs N] [--match TEXT] [--timeout SECONDS] [--log FOLDER] [-- COMMAND ...]
// COMMAND (compute-sanitizer and its options) is put before node. Exit status 1 when anything failed.
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { Parser } from 'tap-parser';
import { deviceTestFiles, shortName } from '../../packages/backend/src/testing/device-test-files.ts';

const argv = process.argv.slice(2);
const end = argv.indexOf('--');
const string = { type: 'string' };
const { values } = parseArgs({
  args: end < 0 ? argv : argv.slice(0, end),
  options: { engine: string, json: string, jobs: string, match: string, timeout: string, log: string },
});
const before = end < 0 ? [] : argv.slice(end + 1);
const limit = Number(values.timeout ?? 240);

/** Assertions of one TAP stream, and the names of those that failed. */
function judge(text) {
  const sum = { passed: 0, skipped: 0, failures: [] };
  const parser = new Parser();
  parser.on('pass', () => sum.passed++);
  parser.on('skip', () => sum.skipped++);
  parser.on('fail', (result) => sum.failures.push(result.fullname || result.name));
  parser.end(text);
  return sum;
}

function run(file) {
  const args = ['--import=tsx', '--conditions=equipoise-source', file];
  const command = [...before, process.execPath, ...args];
  const env = { ...process.env, EQUIPOISE_TEST_ENGINE: values.engine, TAP_TIMEOUT: String(limit) };
  const start = Date.now();
  return new Promise((resolve) => {
    const child = spawn(command[0], command.slice(1), { env, stdio: ['ignore', 'pipe', 'pipe'] });
    const output = [];
    const errors = [];
    child.stdout.on('data', (part) => output.push(part));
    child.stderr.on('data', (part) => errors.push(part));
    const timer = setTimeout(() => child.kill('SIGKILL'), limit * 1e3);
    child.once('error', (error) => errors.push(Buffer.from(error.message)));
    child.once('close', (status, signal) => {
      clearTimeout(timer);
      const text = Buffer.concat(output).toString();
      const all = `${text}\n${Buffer.concat(errors)}`;
      const name = shortName(file);
      if (values.log) {
        fs.mkdirSync(values.log, { recursive: true });
        fs.writeFileSync(path.join(values.log, `${name.replaceAll('/', '-')}.log`), all);
      }
      const verdict = judge(text);
      const seconds = (Date.now() - start) / 1e3;
      // compute-sanitizer's own count; its errors may leave the results right.
      const summary = /ERROR SUMMARY: (\d+) error/.exec(all);
      const sanitizer = summary ? Number(summary[1]) : null;
      const crashed = status !== 0 && verdict.failures.length === 0;
      resolve({ name, status: status ?? signal, seconds, ...verdict, sanitizer, crashed });
    });
  });
}

/** How often a file failed, with its line and the names of what failed on the output. */
function tell(r) {
  const watched = before.length > 0;
  const bad = r.failures.length + (r.crashed ? 1 : 0) + (watched && r.sanitizer !== 0 ? 1 : 0);
  const found = watched ? `, ${r.sanitizer ?? 'no'} sanitizer errors` : '';
  console.log(
    `${bad ? 'FAILED' : 'ok    '} ${r.name}: ${r.passed} passed, ${r.failures.length} failed, ${r.skipped} skipped${found}, ${r.seconds.toFixed(1)} s${r.crashed ? `, ended with ${r.status}` : ''}`,
  );
  for (const name of r.failures.slice(0, 10)) console.log(`         ${name}`);
  return bad;
}

const files = deviceTestFiles().filter((file) => new RegExp(values.match ?? '').test(file));
const results = [];
const queue = [...files];
let failed = files.length === 0 ? 1 : 0;
await Promise.all(
  Array.from({ length: Number(values.jobs ?? 1) }, async () => {
    for (let file = queue.shift(); file !== undefined; file = queue.shift()) {
      const result = await run(file);
      results.push(result);
      failed += tell(result);
      // After each, for a run that is cut off.
      results.sort((a, b) => a.name.localeCompare(b.name));
      if (values.json)
        fs.writeFileSync(
          values.json,
          `${JSON.stringify({ engine: values.engine, before, files: files.length, results }, null, 1)}\n`,
        );
    }
  }),
);
console.log(`${results.length} files, ${results.reduce((n, r) => n + r.passed, 0)} passed, ${failed} failed`);
process.exitCode = failed > 0 ? 1 : 0;
