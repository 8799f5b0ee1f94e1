/**
 * MI-TUNE's own figures, on the embedded model and on layers of SD-2.1's size:
 *
 *     npm run mi-tune -w benchmarks -- --part pair|sweep|precision|steps [--pairs 1000] [--steps 20] [--images 8]
 *         [--python PYTHON] [--json FILE]
 *
 *   pair       a candidate with its MI against generation alone (at most 1.03 is wanted), and what the savings save
 *   sweep      seconds, bytes and memory of a whole sweep of --pairs pairs; two sizes show that cost is linear
 *   precision  rank correlation of scores in bf16 with those in f32 on 200 pairs (at least 0.98 is wanted)
 *   steps      a training step with DoRA against LoRA (at most 1.05) and against PEFT's DoRA (at least 1.8 times faster)
 */
import { CeilingProbe, currentDevice, useEngine } from '@equipoise/backend';
import { defineOptions, invalid, type JobContext, type OptionsOf, option, z } from '@equipoise/core';
import { PeerPool, usePeers } from '../measure/peer.js';
import { benchmarkProgram, type Findings, jsonOption, pythonOption, roundOptions } from '../program.js';
import { measurePair, measurePrecision, measureSweep } from './pairs.js';
import { measureSteps } from './steps.js';

/** What all parts measure with. */
export interface Bench {
  readonly probe: CeilingProbe;
  readonly context: JobContext;
}
export type Part = Pick<Findings, 'cases' | 'summary'>;

const options = defineOptions(
  'mi-tune',
  {
    part: option(z.enum(['pair', 'sweep', 'precision', 'steps']), 'What to measure.'),
    pairs: option(z.int().min(50).default(1000), 'Pairs of the sweep.'),
    steps: option(z.int().min(1).max(1000).default(20), 'Denoising steps.'),
    images: option(z.int().min(1).max(1000).default(8), 'Images of a training step (published: 8).'),
    ...roundOptions(7, 0.3),
    python: pythonOption,
    json: jsonOption,
  },
  ({ part, python }, name) => {
    if (python !== undefined && part !== 'steps')
      throw invalid(name('python'), 'nothing for a part without peers', python);
  },
);
type Settings = OptionsOf<typeof options>;

function measure(settings: Settings, bench: Bench): Promise<Part> {
  const { part, pairs, steps } = settings;
  if (part === 'pair') return measurePair(bench, steps, settings);
  return part === 'sweep' ? measureSweep(pairs, steps, bench.context) : measurePrecision(10, 20, steps);
}

async function run(settings: Settings, context: JobContext): Promise<Findings> {
  const suite = `mi-tune ${settings.part}`;
  await useEngine('equipoise-cpu');
  const native = currentDevice()?.native;
  if (native === undefined) throw new Error('the equipoise-cpu engine did not start');
  const probe = new CeilingProbe(native);
  const bench = { probe, context };
  try {
    if (settings.part !== 'steps') return { suite, ...(await measure(settings, bench)) };
    const { python, versions: peerVersions, problem: peerProblem } = usePeers(settings.python);
    const pool = python === undefined ? undefined : new PeerPool(python);
    try {
      const threads = [...new Set([1, Number(native.describe().threads)])];
      return { suite, ...(await measureSteps(bench, pool, settings, threads)), peerVersions, peerProblem };
    } finally {
      pool?.close();
    }
  } finally {
    probe.dispose();
  }
}

await benchmarkProgram(options, run);
