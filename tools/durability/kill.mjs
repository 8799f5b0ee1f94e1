#!/usr/bin/env node
/**
 * Kills long jobs of MI-TUNE with SIGKILL at random instants and starts them again until they are done, then compares what
 * they leave with what an uninterrupted run leaves: the table of a sweep row for row, the adapter of a fine-tuning byte for
 * byte. Also splits the sweep over four processes and merges the shards.
 *
 *   node tools/durability/kill.mjs [--kills 25] [--prompts 20] [--candidates 20] [--steps 4] [--updates 40] [--seed 1]
 *
 * Needs a built checkout (npm run build); runs on the embedded model. Exits with 1 on any difference.
 */
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { root } from '../lib/setup.mjs';

const { values } = parseArgs({
  options: Object.fromEntries(
    Object.entries({ kills: 25, prompts: 20, candidates: 20, steps: 4, updates: 40, seed: 1 }).map(
      ([name, value]) => [name, { type: 'string', default: String(value) }],
    ),
  ),
});
const settings = Object.fromEntries(Object.entries(values).map(([name, value]) => [name, Number(value)]));
const cli = path.join(root, 'apps/cli/bin/equipoise.js');
const weights = path.join(root, 'packages/tiny-world/weights');
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'equipoise-kill-'));
const at = (...names) => path.join(folder, ...names);

/** A small seeded generator (mulberry32): the instants of the kills can be repeated. */
let state = settings.seed >>> 0;
function random() {
  state = (state + 0x6d2b79f5) >>> 0;
  let t = Math.imul(state ^ (state >>> 15), state | 1);
  t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
  return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
}

/** Runs a command; killed after `limit` milliseconds where one is given. Resolves to whether it ended by itself. */
function equipoise(words, limit) {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [cli, ...words], { stdio: ['ignore', 'ignore', 'pipe'] });
    let errors = '';
    child.stderr.on('data', (data) => {
      errors = (errors + data).slice(-4000);
    });
    const timer = limit === undefined ? undefined : setTimeout(() => child.kill('SIGKILL'), limit);
    child.on('error', reject);
    child.on('close', (status, signal) => {
      clearTimeout(timer);
      if (signal === 'SIGKILL') resolve(false);
      else if (status === 0) resolve(true);
      else reject(new Error(`equipoise ${words.join(' ')}: status ${status}\n${errors}`));
    });
  });
}

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
  let kills = 0;
  let folders = 0;
  let damaged = 0;
  while (kills < settings.kills) {
    const out = `${reference}-killed-${folders++}`;
    for (let done = false; !done; ) {
      done = await equipoise(
        [...words, '--out', out],
        kills < settings.kills ? random() * longest : undefined,
      );
      if (!done) kills++;
    }
    if (!same(reference, out)) damaged++;
  }
  console.log(
    `${name}: ${kills} kills in ${folders} runs of ${seconds.toFixed(1)} s: ${damaged === 0 ? 'all end like the uninterrupted one' : `${damaged} DIFFER`}`,
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
  { length: settings.prompts },
  (_, i) => `a ${colors[i % 8]} ${shapes[Math.floor(i / 8) % 8]}`,
);
fs.writeFileSync(at('prompts.txt'), `${prompts.join('\n')}\n`);

const model = ['--model', weights];
const sweep = [
  ...['mi', 'sweep', ...model, '--sampler', 'ddim', '--prompts', at('prompts.txt')],
  ...['--candidates', String(settings.candidates), '--steps', String(settings.steps), '--guidance', '4'],
];
const tune = [
  ...[
    'mi-tune',
    'train',
    ...model,
    '--set',
    at('set', 'set'),
    '--rank',
    '8',
    '--alpha',
    '8',
    '--tune-batch',
    '8',
  ],
  ...[
    '--accumulation',
    '1',
    '--updates',
    String(settings.updates),
    '--checkpoint-every',
    '3',
    '--learning-rate',
    '0.001',
  ],
];
const parquet = (out) => fs.readFileSync(path.join(out, 'scores.parquet'));
const adapter = (out) => fs.readFileSync(path.join(out, 'adapter', 'pytorch_lora_weights.safetensors'));

try {
  const pairs = settings.prompts * settings.candidates;
  const swept = await torture(
    `sweep of ${pairs} pairs`,
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
  await equipoise([
    'mi-tune',
    'build',
    ...model,
    '--sampler',
    'ddim',
    '--sweep',
    at('sweep'),
    '--out',
    at('set'),
  ]);
  const tuned = await torture(
    `fine-tuning of ${settings.updates} updates`,
    tune,
    at('tune'),
    (a, b) =>
      adapter(a).equals(adapter(b)) &&
      journal(path.join(a, 'log.jsonl')) === journal(path.join(b, 'log.jsonl')),
  );
  process.exitCode = swept && merged && tuned ? 0 : 1;
} finally {
  fs.rmSync(folder, { recursive: true, force: true });
}
