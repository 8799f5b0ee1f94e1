/**
 * Kills `iti-gen train` at random instants, stops it once with SIGTERM, resumes it until it is done, and compares its
 * tokens bit for bit with those of a run that nobody disturbed. Runs the program from its sources, on the embedded model.
 */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { EquipoiseError } from '@equipoise/core';
import { SHIPPED_WEIGHTS, writeReferences } from '@equipoise/tiny-world';

const PROGRAM = fileURLToPath(new URL('../main.ts', import.meta.url));
const NODE = [`--import=${import.meta.resolve('tsx')}`, '--conditions=equipoise-source'];
/** A first epoch takes seconds; one that has not come after this never will. */
const PATIENCE_MS = 120_000;

/** How a process ended. */
export interface Ended {
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  /** The end of what it wrote on standard error. */
  readonly errors: string;
}

function start(words: readonly string[]): {
  kill: (signal: NodeJS.Signals) => void;
  ended: Promise<Ended>;
} {
  const child = spawn(process.execPath, [...NODE, PROGRAM, ...words], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let errors = '';
  child.stderr.on('data', (data) => {
    errors = `${errors}${data}`.slice(-4000);
  });
  const ended = new Promise<Ended>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (status, signal) => resolve({ status, signal, errors }));
  });
  return { kill: (signal) => void child.kill(signal), ended };
}

function requireSuccess({ status, signal, errors }: Ended): void {
  if (status !== 0)
    throw new EquipoiseError('internal', `the training ended with ${status ?? signal}: ${errors}`);
}

function trainingWords(folder: string, run: string, epochs: number): string[] {
  const clip = [
    '--clip',
    path.join(SHIPPED_WEIGHTS, 'clip'),
    '--tokenizer',
    path.join(SHIPPED_WEIGHTS, 'tokenizer'),
  ];
  const data = ['--data', path.join(folder, 'references'), '--prompt', 'a headshot of a person'];
  const settings = ['--epochs', String(epochs), '--save-every', '3'];
  return ['iti-gen', 'train', ...clip, ...data, ...settings, '--out', path.join(folder, run)];
}

/** Hashes of the token files of a run, by name. */
function tokenFiles(folder: string): Record<string, string> {
  const names = fs.readdirSync(folder).filter((name) => /^tokens.*[.]safetensors$/.test(name));
  const hash = (name: string): string =>
    createHash('sha256')
      .update(fs.readFileSync(path.join(folder, name)))
      .digest('hex');
  return Object.fromEntries(names.map((name) => [name, hash(name)]));
}

/** Epochs that a run has recorded so far. */
function epochsRecorded(folder: string): number {
  const file = path.join(folder, 'log.jsonl');
  return fs.existsSync(file) ? fs.readFileSync(file, 'utf8').split('\n').length - 1 : 0;
}

export interface KillOptions {
  /** Empty, or absent. */
  readonly folder: string;
  readonly kills: number;
  readonly epochs: number;
  /** Uniform in [0, 1). */
  readonly random: () => number;
  readonly log?: (line: string) => void;
}

export interface KillResult {
  /** Hashes of the token files of the undisturbed run, and of the one that was killed. */
  readonly whole: Readonly<Record<string, string>>;
  readonly killed: Readonly<Record<string, string>>;
  /** Epochs recorded when each kill struck. */
  readonly struck: readonly number[];
  /** How the run that was sent SIGTERM after its next epoch ended. */
  readonly stopped: Ended;
}

/**
 * Every other kill falls at any instant of the start (loading, image features), the others within 25 ms after an epoch
 * has been recorded, where tokens and checkpoints are written.
 *
 * @throws EquipoiseError when the training is done before all kills have struck: give it more epochs
 */
export async function killAndResume({
  folder,
  kills,
  epochs,
  random,
  log,
}: KillOptions): Promise<KillResult> {
  await writeReferences(path.join(folder, 'references'), ['eyeglasses', 'hat'], { seed: 1, perCategory: 25 });
  const began = performance.now();
  const whole = start(trainingWords(folder, 'whole', epochs));
  while (epochsRecorded(path.join(folder, 'whole')) === 0)
    if (await Promise.race([whole.ended.then(() => true), delay(1, false)])) break;
  const startMs = performance.now() - began;
  requireSuccess(await whole.ended);
  const run = path.join(folder, 'killed');
  const struck: number[] = [];
  while (struck.length < kills) {
    const early = struck.length % 2 === 1;
    // A resumed start is shorter than the first: an early kill must not wait beyond an epoch either.
    const target = epochsRecorded(run) + 1 + (early ? 0 : Math.floor(random() * 2));
    const { kill, ended } = start(trainingWords(folder, 'killed', epochs));
    const over = ended.then(
      () => true,
      () => true,
    );
    const deadline = performance.now() + (early ? random() * startMs : PATIENCE_MS);
    while (performance.now() < deadline && epochsRecorded(run) < target)
      if (await Promise.race([over, delay(1, false)])) break;
    await delay(random() * 25);
    kill('SIGKILL');
    const end = await ended;
    if (end.signal !== 'SIGKILL') {
      requireSuccess(end);
      throw new EquipoiseError('internal', `the training was done after ${struck.length} kills`);
    }
    struck.push(epochsRecorded(run));
    log?.(`kill ${struck.length} of ${kills}: ${struck.at(-1)} of ${epochs} epochs recorded`);
  }
  const { kill, ended } = start(trainingWords(folder, 'killed', epochs));
  const before = epochsRecorded(run);
  while (epochsRecorded(run) === before)
    if (await Promise.race([ended.then(() => true), delay(1, false)])) break;
  kill('SIGTERM');
  const stopped = await ended;
  requireSuccess(await start(trainingWords(folder, 'killed', epochs)).ended);
  return { whole: tokenFiles(path.join(folder, 'whole')), killed: tokenFiles(run), struck, stopped };
}
