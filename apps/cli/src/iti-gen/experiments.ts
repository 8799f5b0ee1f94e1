/** What the experimenting commands share: a laboratory in a run folder, and the report of what it found. */
import type { JsonValue } from '@equipoise/core';
import { Laboratory, type StudyOptions, TRAIN_DEFAULTS } from '@equipoise/iti-gen';
import { type Section, writeReport } from '@equipoise/report';
import type { CommandContext } from '../command.js';
import { openEngine } from '../engine-options.js';
import { type BenchOptions, benchOptions, openBench } from './bench-options.js';
import { inRunFolder } from './run-folder.js';
import { TINY_WORLD_GUIDANCE, TINY_WORLD_LEARNING } from './tiny-world-bench.js';

/** The options of a study, in the terms of the laboratory. */
export function studyOptions(options: BenchOptions, sets: readonly (readonly string[])[]): StudyOptions {
  const defaults = options.model === undefined ? TINY_WORLD_LEARNING : { ...TRAIN_DEFAULTS, references: 25 };
  return {
    prompt: options.prompt,
    sets,
    seeds: options.seeds,
    images: options.images,
    learning: {
      tokenLength: options.tokenLength ?? defaults.tokenLength,
      join: options.join ?? defaults.join,
      references: options.references ?? defaults.references,
      updatesPerEpoch: options.updates ?? defaults.updatesPerEpoch,
      epochs: options.epochs ?? defaults.epochs,
      decayAfter: defaults.decayAfter,
      decay: defaults.decay,
      compat: defaults.compat,
      consistency: options.consistency ?? defaults.consistency,
      strength: options.strength ?? defaults.strength,
      learningRate: options.learningRate,
    },
  };
}

export interface Experiment {
  readonly command: string;
  readonly title: string;
  /** One or two sentences, given the time it took. */
  summary(seconds: number): string;
  run(laboratory: Laboratory): Promise<Section[]>;
}

/**
 * Runs an experiment in its folder and writes the report. Cells are named by all that decides their results, so
 * options may change from start to start: what is done is kept, and what is new is added.
 */
export async function runExperiment(
  experiment: Experiment,
  options: BenchOptions,
  context: CommandContext,
): Promise<string> {
  const { engine, precision, out, steps, batch, model } = options;
  const { guidance = model === undefined ? TINY_WORLD_GUIDANCE : 6 } = options;
  await openEngine({ engine, precision });
  const bench = await openBench(options, context);
  const shown = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
  const spec = {
    command: experiment.command,
    options: shown as Record<string, JsonValue>,
    // Also those that an earlier start gave and this one leaves out.
    free: benchOptions.list().map(({ key }) => key),
    inputs: { bench: bench.hash },
    device: { engine, precision },
    argv: context.argv,
  };
  return inRunFolder(out, spec, async (run) => {
    const start = performance.now();
    const laboratory = new Laboratory(bench, {
      folder: run.folder,
      sampling: { steps, guidance, sampler: 'ddim' },
      batch,
    });
    const sections = await run.time('experiments', () => experiment.run(laboratory));
    const seconds = (performance.now() - start) / 1000;
    return writeReport(run.folder, {
      title: experiment.title,
      summary: experiment.summary(seconds),
      sections: [
        ...sections,
        {
          title: 'Settings',
          blocks: [{ kind: 'details', title: 'All options', text: JSON.stringify(shown, null, 2) }],
        },
      ],
    });
  });
}

/** "12 min 5 s". */
export function duration(seconds: number): string {
  const whole = Math.round(seconds);
  return whole < 60 ? `${whole} s` : `${Math.floor(whole / 60)} min ${whole % 60} s`;
}
