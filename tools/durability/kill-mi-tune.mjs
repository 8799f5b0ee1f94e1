#!/usr/bin/env node
/**
 * Kills long jobs of MI-TUNE with SIGKILL at random instants and starts them again until they are done, then compares what
 * they leave with what an uninterrupted run leaves: the table of a sweep row for row, the adapter of a fine-tuning byte for
 * byte. Also splits the sweep over four processes and merges the shards.
 *
 *   node tools/durability/kill-mi-tune.mjs [--kills 25] [--prompts 20] [--candidates 20] [--steps 4] [--updates 40] [--seed 1]
 *
 * Needs a built checkout (npm run build); runs on the embedded model. Exits with 1 on any difference.
 */
import fs from 'node:fs';
import path from 'node:path';
import { PhiloxSequence } from '@equipoise/core';
import { root } from '../lib/setup.mjs';
import { endsByItself, judge, settings } from './common.mjs';

const { kills, seed, ...size } = settings({
  kills: 25,
  prompts: 20,
  candidates: 20,
  steps: 4,
  updates: 40,
  seed: 1,
});
const random = new PhiloxSequence(seed);
const cli = path.join(root, 'apps/cli/bin/equipoise.js');
const equipoise = (words, limit) => endsByItself([cli, ...words], limit);

/** Journals as sets of lines by key: the same units, with the same values. */
function journal(file) {
  const entries = fs
    .readFileSync(file, 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
  return JSON.stringify(
    [...new Map(entries.map(({ key, value }) => [Number(key), value]))].sort(([a], [b]) => a - b),
  );
}

/**
 * Runs a job to its end over and over, in fresh folders, killing it at random instants until it has been killed often
 * enough; every folder must end like the reference.
 */
async function torture(name, words, reference, same) {
  const started = performance.now();
  await equipoise([...words, '--out', reference]);
  const seconds = (performance.now() - started) / 1000;
  // About ten starts to a run: most kills fall into the work, some into start-up and shut-down.
  const longest = 2500 + (seconds * 1000) / 10;
  let struck = 0;
  let folders = 0;
  let damaged = 0;
  while (struck < kills) {
    const out = `${reference}-killed-${folders++}`;
    for (let done = false; !done; ) {
      done = await equipoise(
        [...words, '--out', out],
        struck < kills ? random.uniform() * longest : undefined,
      );
      if (!done) struck++;
    }
    if (!same(reference, out)) damaged++;
  }
  console.log(
    `${name}: ${struck} kills in ${folders} runs of ${seconds.toFixed(1)} s: ${damaged === 0 ? 'all end like the uninterrupted one' : `${damaged} DIFFER`}`,
  );
  return damaged === 0;
}

/** Rows of a sweep as the query language sees them. */
function table(sweep) {
  return journal(path.join(sweep, 'scores.jsonl'));
}

const colors = ['red', 'orange', 'yellow', 'green', 'blue', 'purple', 'pink', 'brown'];
const shapes = ['circle', 'square', 'triangle', 'star', 'heart', 'diamond', 'cross', 'crescent'];
const prompts = Array.from(
  { length: size.prompts },
  (_, i) => `a ${colors[i % 8]} ${shapes[Math.floor(i / 8) % 8]}`,
);
const model = ['--model', path.join(root, 'packages/tiny-world/weights')];
const split = (text) => text.split(' ');
const parquet = (out) => fs.readFileSync(path.join(out, 'scores.parquet'));
const adapter = (out) => fs.readFileSync(path.join(out, 'adapter', 'pytorch_lora_weights.safetensors'));

await judge(async (folder) => {
  const at = (...names) => path.join(folder, ...names);
  fs.writeFileSync(at('prompts.txt'), `${prompts.join('\n')}\n`);
  const sweep = [
    ...['mi', 'sweep', ...model, '--prompts', at('prompts.txt')],
    ...split(`--sampler ddim --guidance 4 --candidates ${size.candidates} --steps ${size.steps}`),
  ];
  const swept = await torture(
    `sweep of ${size.prompts * size.candidates} pairs`,
    sweep,
    at('sweep'),
    (a, b) => table(a) === table(b) && parquet(a).equals(parquet(b)),
  );

  const shards = [1, 2, 3, 4].map((i) => at(`shard-${i}`));
  for (const [i, shard] of shards.entries())
    await equipoise([...sweep, '--shard', `${i + 1}/4`, '--out', shard]);
  await equipoise(['mi', 'merge', ...shards.reverse(), '--out', at('merged')]);
  const merged =
    table(at('merged')) === table(at('sweep')) && parquet(at('merged')).equals(parquet(at('sweep')));
  console.log(`shards 1/4 to 4/4 merged: ${merged ? 'equal the whole' : 'DIFFER from the whole'}`);

  const build = ['mi-tune', 'build', ...model, '--sampler', 'ddim', '--sweep', at('sweep')];
  await equipoise([...build, '--out', at('set')]);
  const tuned = await torture(
    `fine-tuning of ${size.updates} updates`,
    [
      ...['mi-tune', 'train', ...model, '--set', at('set', 'set')],
      ...split('--rank 8 --alpha 8 --tune-batch 8 --accumulation 1 --learning-rate 0.001'),
      ...split(`--updates ${size.updates} --checkpoint-every 3`),
    ],
    at('tune'),
    (a, b) =>
      adapter(a).equals(adapter(b)) &&
      journal(path.join(a, 'log.jsonl')) === journal(path.join(b, 'log.jsonl')),
  );
  return swept && merged && tuned;
});
