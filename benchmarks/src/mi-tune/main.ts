/**
 * MI-TUNE's own figures, on the embedded model and on layers of SD-2.1's size:
 *
 *     npm run mi-tune -w benchmarks -- --part pair|sweep|precision|steps [--pairs 1000] [--steps 20] [--images 8]
 *         [--python PYTHON]
 *
 *   pair       a candidate with its MI against generation alone (at most 1.03 is wanted), and what the savings save
 *   sweep      seconds, bytes and memory of a whole sweep of --pairs pairs; two sizes show that cost is linear
 *   precision  rank correlation of scores in bf16 with those in f32 on 200 pairs (at least 0.98 is wanted)
 *   steps      a training step with DoRA against LoRA (at most 1.05) and against PEFT's DoRA (at least 1.8 times faster)
 */
import { writeFile } from 'node:fs/promises';
import { CeilingProbe, type Ceilings, currentDevice, useEngine } from '@equipoise/backend';
import { defineOptions, formatError, machineInfo, option, readCommandLine, z } from '@equipoise/core';
import { PeerPool, peerVersions } from '../measure/peer.js';
import { measurePair, measurePrecision, measureSweep } from './pairs.js';
import { measureSteps } from './steps.js';

/** Measures the ceilings: the yardstick of the clock in every round. */
export type Probe = (precision: 'f32' | 'bf16') => () => Ceilings;

const options = defineOptions('mi-tune', {
  part: option(z.enum(['pair', 'sweep', 'precision', 'steps']), 'What to measure.'),
  pairs: option(z.int().min(50).default(1000), 'Pairs of the sweep.'),
  steps: option(z.int().min(1).max(1000).default(20), 'Denoising steps.'),
  images: option(z.int().min(1).max(1000).default(8), 'Images of a training step (published: 8).'),
  rounds: option(z.int().min(3).max(1000).default(7), 'Rounds at full clock.'),
  seconds: option(z.number().min(0.001).max(60).default(0.3), 'Length of each turn.'),
  python: option(z.string().min(1).optional(), 'Python with PyTorch and PEFT; default $EQUIPOISE_PYTHON.'),
  json: option(z.string().min(1).optional(), 'File for the figures.'),
});

async function main(argv: readonly string[]): Promise<void> {
  const settings = readCommandLine(options, argv);
  if (settings === undefined) return;
  const { part, pairs, steps, json } = settings;
  await useEngine('equipoise-cpu');
  const native = currentDevice()?.native;
  if (native === undefined) throw new Error('the equipoise-cpu engine did not start');
  const ceilings = new CeilingProbe(native);
  const probe: Probe = (precision) => () => ceilings.measure(precision);
  const python = settings.python ?? process.env.EQUIPOISE_PYTHON;
  const { versions, problem } = part === 'steps' ? peerVersions(python) : { versions: null, problem: null };
  if (problem !== null) console.error(`no peer: ${problem}`);
  const pool = versions === null ? undefined : new PeerPool(python as string);
  try {
    const result =
      part === 'pair'
        ? await measurePair(probe, steps, settings)
        : part === 'sweep'
          ? await measureSweep(pairs, steps)
          : part === 'precision'
            ? await measurePrecision(10, 20, steps)
            : await measureSteps(probe, pool, settings);
    const record = { part, settings: { ...settings }, machine: machineInfo(), versions, result };
    console.log(JSON.stringify(result, null, 2));
    if (json !== undefined) await writeFile(json, `${JSON.stringify(record, null, 2)}\n`);
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
