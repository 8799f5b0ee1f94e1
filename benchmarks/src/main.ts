/**
 * `npm run bench -- --suite kernels --json FILE`: times kernels beside peers and ceilings in interleaved rounds.
 * Benchmarks are never cached and never part of the tests.
 */
import { writeFile } from 'node:fs/promises';
import { currentDevice } from '@equipoise/backend';
import {
  defineOptions,
  formatError,
  gitState,
  machineInfo,
  type OptionsOf,
  option,
  packageVersions,
  readCommandLine,
  z,
} from '@equipoise/core';
import { PeerPool, peerVersions } from './measure/peer.js';
import { type BenchmarkRecord, type CaseRecord, FORMAT } from './record.js';
import { renderRecord } from './report.js';
import { runDispatchSuite } from './suites/dispatch.js';
import { runKernelSuite, summarise } from './suites/kernels.js';

const options = defineOptions('bench', {
  suite: option(
    z.enum(['kernels', 'dispatch']).default('kernels'),
    'What to time; kernels includes dispatch.',
  ),
  json: option(z.string().min(1).optional(), 'File for the JSON record.'),
  filter: option(z.string().default(''), 'Only cases whose name contains this text.'),
  precision: option(z.enum(['f32', 'bf16', 'both']).default('both'), 'Storage precision.'),
  rounds: option(z.int().min(3).max(1000).default(9), 'Rounds at full clock.'),
  seconds: option(z.number().min(0.001).max(60).default(0.05), 'Length of each turn.'),
  python: option(
    z.string().min(1).optional(),
    'Python with PyTorch (and PEFT) for the peers; default $EQUIPOISE_PYTHON, else no peers.',
  ),
});
type BenchOptions = OptionsOf<typeof options>;

async function runSuite(
  settings: BenchOptions,
  pool: PeerPool | undefined,
): Promise<{ cases: CaseRecord[]; summary: Record<string, number> }> {
  const dispatch = await runDispatchSuite();
  const summary = Object.fromEntries(
    dispatch.map(({ op, microseconds }) => [`dispatch ${op}: microseconds per op`, microseconds]),
  );
  if (settings.suite === 'dispatch') return { cases: [], summary };
  const threads = Number(currentDevice()?.native.describe().threads ?? 1);
  const suite = {
    filter: settings.filter,
    rounds: settings.rounds,
    budget: settings.seconds,
    precisions: settings.precision === 'both' ? (['f32', 'bf16'] as const) : [settings.precision],
    peerThreads: [...new Set([1, threads])],
  };
  const onProgress = ({ task, done, total }: { task: string; done: number; total?: number }): void => {
    if (process.stderr.isTTY) process.stderr.write(`\r\u001b[K${done + 1}/${total} ${task}`);
  };
  const cases = await runKernelSuite(suite, pool, { onProgress });
  if (process.stderr.isTTY) process.stderr.write('\r\u001b[K');
  if (cases.length === 0)
    throw new Error(`--filter: expected text that some case contains, got "${settings.filter}"`);
  return { cases, summary: { ...summarise(cases), ...summary } };
}

async function main(argv: readonly string[]): Promise<void> {
  const settings = readCommandLine(options, argv);
  if (settings === undefined) return;
  const startedAt = new Date();
  const python = settings.python ?? process.env.EQUIPOISE_PYTHON;
  const { versions, problem } = peerVersions(python);
  const pool = versions === null ? undefined : new PeerPool(python as string);
  try {
    const { cases, summary } = await runSuite(settings, pool);
    const record: BenchmarkRecord = {
      format: FORMAT,
      suite: settings.suite,
      argv,
      startedAt: startedAt.toISOString(),
      seconds: (Date.now() - startedAt.getTime()) / 1e3,
      git: await gitState(process.cwd()),
      machine: machineInfo(),
      device: { ...currentDevice()?.native.describe() },
      packages: await packageVersions(['@tensorflow/tfjs-core'], import.meta.url),
      peerVersions: versions,
      peerProblem: problem,
      cases,
      summary,
    };
    for (const line of renderRecord(record)) console.log(line);
    if (settings.json !== undefined) await writeFile(settings.json, `${JSON.stringify(record, null, 2)}\n`);
  } finally {
    pool?.close();
  }
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  console.error(formatError(error));
  process.exitCode = 1;
}
