/**
 * Trains the embedded model for a few steps three times from one seed: twice undisturbed and once killed with SIGKILL at
 * random instants and resumed. All loss curves and weights must be equal byte for byte.
 *
 *   node --import=tsx --conditions=equipoise-source tools/durability/kill-tiny-world.ts [--steps 200] [--kills 3] [--seed 1]
 *
 * `--steps` counts the denoiser's updates; the stages before it are shortened by the same factor. Needs the addon
 * (npm run build:native); exits with 1 on any difference.
 */
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { PhiloxSequence } from '../../packages/core/src/index.js';
import { RECIPE } from '../../packages/tiny-world/src/train/recipe.js';

const STAGES = ['vocab', 'clip', 'vae', 'unet'] as const;
/** What a stage leaves that the next ones, and the shipped weights, depend on. */
const RESULTS = ['clip/loss.csv', 'clip/clip.safetensors', 'vae/loss.csv', 'vae/vae.safetensors'].concat([
  'unet/loss.csv',
  'unet/unet.safetensors',
]);
const program = path.join(import.meta.dirname, '../../packages/tiny-world/src/bin/train.ts');

const whole = (value: string, name: string): number => {
  const number = Number(value);
  if (!Number.isInteger(number) || number < 1)
    throw new TypeError(`--${name}: expected a positive integer, got ${value}`);
  return number;
};

/** Runs one stage; resolves to whether it ended by itself, and not by the kill after `limit` milliseconds. */
function train(run: string, stage: string, effort: number, limit?: number): Promise<boolean> {
  const options = [
    '--run',
    run,
    '--data',
    path.join(run, '../data'),
    '--stage',
    stage,
    '--effort',
    String(effort),
  ];
  return new Promise((resolve, reject) => {
    const child = spawn(
      process.execPath,
      ['--import=tsx', '--conditions=equipoise-source', program, ...options],
      { stdio: ['ignore', 'ignore', 'pipe'] },
    );
    let errors = '';
    child.stderr.on('data', (data: Buffer) => {
      errors = (errors + data.toString()).slice(-4000);
    });
    const timer = limit === undefined ? undefined : setTimeout(() => child.kill('SIGKILL'), limit);
    child.on('error', reject);
    child.on('close', (status, signal) => {
      clearTimeout(timer);
      if (signal === 'SIGKILL') resolve(false);
      else if (status === 0) resolve(true);
      else reject(new Error(`stage ${stage}: status ${status}\n${errors}`));
    });
  });
}

async function undisturbed(run: string, effort: number): Promise<number> {
  const started = performance.now();
  for (const stage of STAGES) await train(run, stage, effort);
  return performance.now() - started;
}

async function killed(
  run: string,
  effort: number,
  kills: number,
  longest: number,
  seed: number,
): Promise<number> {
  const random = new PhiloxSequence(seed);
  let done = 0;
  for (const stage of STAGES) {
    const mine = stage === 'vocab' ? 0 : kills;
    for (let k = 0; k < mine; k++) {
      if (!(await train(run, stage, effort, 1000 + random.uniform() * longest))) done++;
    }
    await train(run, stage, effort);
  }
  return done;
}

/** Loss of the last update in a curve. */
function lastLoss(file: string): string {
  return fs.readFileSync(file, 'utf8').trimEnd().split('\n').at(-1) ?? '';
}

const option = (fallback: string) => ({ type: 'string', default: fallback }) as const;
const { values } = parseArgs({ options: { steps: option('200'), kills: option('3'), seed: option('1') } });
const effort = whole(values.steps, 'steps') / RECIPE.unet.steps;
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'equipoise-kill-'));
const [first, second, third] = ['first', 'second', 'killed'].map((name) => path.join(folder, name)) as [
  string,
  string,
  string,
];
try {
  const time = await undisturbed(first, effort);
  await undisturbed(second, effort);
  const kills = await killed(
    third,
    effort,
    whole(values.kills, 'kills'),
    time / 3,
    whole(values.seed, 'seed'),
  );
  const bytes = (run: string, name: string): Buffer => fs.readFileSync(path.join(run, name));
  const different = (run: string): string[] =>
    RESULTS.filter((name) => !bytes(first, name).equals(bytes(run, name)));
  const report = (what: string, names: readonly string[]): void =>
    console.log(
      `${what}: ${names.length === 0 ? 'the same curves and weights' : `DIFFERENT ${names.join(', ')}`}`,
    );
  console.log(`last update and loss of the denoiser: ${lastLoss(path.join(first, 'unet/loss.csv'))}`);
  const [again, resumed] = [different(second), different(third)];
  report('a second run', again);
  report(`a run killed ${kills} times`, resumed);
  process.exitCode = again.length + resumed.length === 0 ? 0 : 1;
} finally {
  fs.rmSync(folder, { recursive: true, force: true });
}
