// Puts what the parts of check.sh left into one JSON and one readable table.
// Usage: node tools/gpu/report.mjs WORK OUT --argv TEXT. Exit status 1 unless every part passed.
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

const [work, out, , argv = ''] = process.argv.slice(2);
const read = (name) => {
  try {
    return JSON.parse(fs.readFileSync(path.join(work, name), 'utf8'));
  } catch {
    return null;
  }
};
const lines = (name) =>
  fs.existsSync(path.join(work, name))
    ? fs.readFileSync(path.join(work, name), 'utf8').trim().split('\n')
    : [];
const output = (command, args) => spawnSync(command, args, { encoding: 'utf8' }).stdout?.trim() || null;

const parts = lines('parts.tsv').map((line) => {
  const [part, status, seconds] = line.split('\t');
  return {
    part,
    passed: status === '0',
    status: status === 'no time' ? status : Number(status),
    seconds: Number(seconds),
    end: lines(`${part}.log`).slice(-12),
  };
});
const conformance = read('conformance.json');
const report = {
  format: 1,
  command: argv,
  date: new Date().toISOString(),
  commit: output('git', ['rev-parse', 'HEAD']),
  machine: {
    gpu: lines('gpu.txt')[0] || null,
    nvcc: lines('nvcc.txt')[0] || null,
    processor: os.cpus()[0]?.model ?? null,
    cores: os.cpus().length,
    kernel: os.release(),
    node: process.version,
  },
  parts,
  tests: read('tests.json'),
  libraries: read('libraries.json'),
  sanitize: Object.fromEntries(
    ['memcheck', 'racecheck', 'initcheck'].map((tool) => [tool, read(`sanitize-${tool}.json`)]),
  ),
  conformance: conformance && { counts: conformance.counts, problems: conformance.problems },
  pipelines: { cpu: read('showcase-cpu.json'), cuda: read('showcase-cuda.json') },
  bench: read('bench.json'),
  resources: read('resources.json'),
};
fs.writeFileSync(path.join(out, 'report.json'), `${JSON.stringify(report, null, 1)}\n`);

const text = [
  `Equipoise on ${report.machine.gpu ?? 'no GPU'}; ${report.machine.nvcc ?? 'no nvcc'}; commit ${report.commit ?? 'unknown'}`,
  '',
  ...parts.map(
    ({ part, passed, seconds, status }) =>
      `${part.padEnd(12)} ${passed ? 'passed' : `FAILED (${status})`} in ${seconds} s`,
  ),
];
for (const { part } of parts.filter(({ part }) => part !== 'build')) {
  const log = lines(`${part}.log`);
  if (log.length > 0) text.push('', `-- ${part}`, ...log.slice(-60));
}
fs.writeFileSync(path.join(out, 'report.txt'), `${text.join('\n')}\n`);
process.exitCode = parts.length > 0 && parts.every(({ passed }) => passed) ? 0 : 1;
