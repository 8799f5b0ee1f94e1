/** What all benchmark programs do alike: options, interruption, progress, the record, the table, exit statuses. */
import { access, constants } from 'node:fs/promises';
import { availableParallelism, loadavg } from 'node:os';
import { dirname, resolve } from 'node:path';
import { currentDevice } from '@equipoise/backend';
import {
  createProgress,
  EquipoiseError,
  formatError,
  gitState,
  type JobContext,
  machineInfo,
  makeFolder,
  type OptionSet,
  type OptionsOf,
  option,
  packageVersions,
  readCommandLine,
  writeFileAtomic,
  z,
} from '@equipoise/core';
import { type BenchmarkRecord, FORMAT } from './record.js';
import { renderRecord } from './report.js';

export const jsonOption = option(z.string().min(1).optional(), 'File for the JSON record.');
export const pythonOption = option(
  z.string().min(1).optional(),
  'Python with PyTorch (and PEFT) for the peers; default $EQUIPOISE_PYTHON, else no peers.',
);
/** How rounds are played; defaults differ. */
export const roundOptions = (rounds: number, seconds: number) => ({
  rounds: option(z.int().min(1).max(1000).default(rounds), 'Rounds at full clock; bench:compare needs 5.'),
  seconds: option(z.number().min(0.001).max(60).default(seconds), 'Length of each turn.'),
});

/** What a program measured. */
export type Findings = Pick<BenchmarkRecord, 'suite' | 'cases' | 'summary'> &
  Partial<Pick<BenchmarkRecord, 'failures' | 'peerVersions' | 'peerProblem'>>;

export const INTERRUPTED = 130;
/** Share of the cores that others may keep busy. */
const BUSY = 0.25;

/**
 * Runs a benchmark and sets the exit status: 0, 1 when a case or the program failed, 2 for options that make no sense,
 * 130 when it was interrupted. The record is written whole or not at all, and only by a run that came to its end.
 */
// biome-ignore lint/suspicious/noExplicitAny: programs have options of all kinds
export async function benchmarkProgram<S extends OptionSet<any>>(
  options: S,
  run: (settings: OptionsOf<S>, context: JobContext) => Promise<Findings>,
): Promise<void> {
  const controller = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const)
    process.on(signal, () => {
      if (controller.signal.aborted) process.exit(INTERRUPTED);
      controller.abort(new Error(`stopped by ${signal}`));
    });
  const progress = createProgress(console.error);
  try {
    const argv = process.argv.slice(2);
    const settings = readCommandLine(options, argv);
    if (settings === undefined) return;
    const { json } = settings as { json?: string };
    if (json !== undefined) await requireWritable(json);
    const load = loadavg()[0] as number;
    if (load > BUSY * availableParallelism())
      console.error(`load average ${load.toFixed(1)}: something else runs on this machine, times will vary`);
    const startedAt = new Date();
    const context = { signal: controller.signal, onProgress: progress.onProgress };
    const findings = await run(settings as OptionsOf<S>, context);
    progress.end();
    const record = await makeRecord(findings, { argv, startedAt, load });
    for (const line of renderRecord(record)) console.log(line);
    if (json !== undefined) await writeFileAtomic(json, `${JSON.stringify(record, null, 2)}\n`);
    if (Object.keys(record.failures).length > 0) process.exitCode = 1;
  } catch (error) {
    progress.end();
    // A terminal interrupts peers too, and their end must not pass for a failure.
    const { aborted, reason } = controller.signal;
    console.error(aborted ? `${(reason as Error).message}: no record was written` : formatError(error));
    process.exitCode = aborted ? INTERRUPTED : statusOf(error);
  }
}

function statusOf(error: unknown): number {
  return error instanceof EquipoiseError && error.code === 'invalid' ? 2 : 1;
}

/** An hour of measuring should not end with a file that cannot be written. */
async function requireWritable(file: string): Promise<void> {
  const folder = dirname(resolve(file));
  await makeFolder(folder);
  await access(folder, constants.W_OK).catch((error: unknown) => {
    throw new EquipoiseError('io', `${file}: cannot write: no permission for its folder`, { cause: error });
  });
}

async function makeRecord(
  findings: Findings,
  { argv, startedAt, load }: { argv: string[]; startedAt: Date; load: number },
): Promise<BenchmarkRecord> {
  return {
    format: FORMAT,
    argv,
    startedAt: startedAt.toISOString(),
    seconds: (Date.now() - startedAt.getTime()) / 1e3,
    git: await gitState(process.cwd()),
    machine: { ...machineInfo(), loadAverage: load },
    device: { ...currentDevice()?.native.describe() },
    packages: await packageVersions(['@tensorflow/tfjs-core'], import.meta.url),
    peerVersions: null,
    peerProblem: null,
    failures: {},
    ...findings,
  };
}
