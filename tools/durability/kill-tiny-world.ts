/**
 * Trains the embedded model for a few updates three times from one seed: twice undisturbed and once killed with SIGKILL at
 * random instants and resumed. All loss curves and weights must be equal byte for byte.
 *
 *   node --import=tsx --conditions=equipoise-source tools/durability/kill-tiny-world.ts [--updates 200] [--kills 3] [--seed 1]
 *
 * `--updates` counts the denoiser's updates; the stages before it are shortened by the same factor. Needs the addon
 * (npm run build:native); exits with 1 on any difference.
 */
import fs from 'node:fs';
import path from 'node:path';
import { PhiloxSequence } from '@equipoise/core';
import { RECIPE } from '../../packages/tiny-world/src/train/recipe.js';
import { endsByItself, judge, settings } from './common.mjs';

const STAGES = ['vocab', 'clip', 'vae', 'unet'] as const;
/** What a stage leaves that the next ones, and the shipped weights, depend on. */
const RESULTS = ['clip', 'vae', 'unet'].flatMap((part) => [
  `${part}/loss.csv`,
  `${part}/${part}.safetensors`,
]);
const program = path.join(import.meta.dirname, '../../packages/tiny-world/src/bin/train.ts');

/** Runs one stage; resolves to whether it ended by itself, and not by the kill after `limit` milliseconds. */
function train(run: string, stage: string, effort: number, limit?: number): Promise<boolean> {
  const options = ['--run', run, '--data', path.join(run, '../data'), '--stage', stage];
  const node = ['--import=tsx', '--conditions=equipoise-source', program];
  return endsByItself([...node, ...options, '--effort', String(effort)], limit);
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

const { updates, kills, seed } = settings({ updates: 200, kills: 3, seed: 1 });
const effort = updates / RECIPE.unet.steps;

await judge(async (folder) => {
  const [first, second, third] = ['first', 'second', 'killed'].map((name) => path.join(folder, name)) as [
    string,
    string,
    string,
  ];
  const time = await undisturbed(first, effort);
  await undisturbed(second, effort);
  const struck = await killed(third, effort, kills, time / 3, seed);
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
  report(`a run killed ${struck} times`, resumed);
  return again.length + resumed.length === 0;
});
