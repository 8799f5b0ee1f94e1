import { option, z } from '@equipoise/core';
import { compareMethods, METHODS } from '@equipoise/iti-gen';
import { defineCommand, GOES_ON } from '../../command.js';
import { benchOptions, parseSets } from '../../iti-gen/bench-options.js';
import { duration, runExperiment, studyOptions } from '../../iti-gen/experiments.js';

const options = benchOptions.extend('iti-gen table', {
  sets: option(
    z
      .array(z.string())
      .min(1)
      .default([
        'skinTone',
        'eyeglasses',
        'hat',
        'beard',
        'smile',
        'hairLength',
        'hat+eyeglasses',
        'hat+beard+smile',
        'skinTone+eyeglasses',
      ]),
    'Attributes; those joined by + are learned together.',
  ),
  methods: option(
    z
      .array(z.enum(METHODS))
      .min(1)
      .default([...METHODS]),
    'Rows: the plain prompt, hard prompts, "with / without" prompts, inclusive tokens.',
  ),
  otherPrompts: option(
    z
      .array(z.string())
      .default(['a portrait of a person', 'a cartoon of a person', 'a headshot of an old person']),
    'Prompts that tokens learned under the main prompt are applied to; "" for none.',
    { whole: true },
  ),
});

export const itiGenTable = defineCommand({
  options,
  description:
    'Compares the plain prompt, hard prompts, "with / without" prompts and inclusive tokens, with several seeds: divergence to uniform, accuracy, FID and prompt similarity; and applies learned tokens to other prompts. Writes report.html, report.json and one CSV per table.\n\nRuns on the embedded model and its judges, or with --model on any pipeline with zero-shot judges. Every cell has a run folder: a killed run goes on, and what is done is read back. The cost is nearly all drawing: --images and --steps set it.',
  examples: [
    'equipoise iti-gen table --out runs/table',
    'equipoise iti-gen table --out runs/table --images 96 --seeds 0 --sets eyeglasses,skinTone+eyeglasses',
  ],
  stopped: GOES_ON,
  async run(given, context) {
    const { sets, methods, otherPrompts: named, ...rest } = given;
    const otherPrompts = named.filter((prompt) => prompt !== '');
    const study = studyOptions(rest, parseSets(sets, '--sets'));
    const drawn =
      study.images *
      study.seeds.length *
      (1 +
        sets.length * methods.filter((own) => own !== 'vanilla').length +
        otherPrompts.length * (1 + sets.length));
    context.note(`iti-gen table: up to ${drawn} images of ${rest.steps} steps`);
    const report = await runExperiment(
      {
        command: 'iti-gen table',
        title: 'ITI-GEN beside other prompts',
        summary: (seconds) =>
          `${sets.length} sets of attributes, ${study.seeds.length} seeds, ${study.images} images a cell; this start took ${duration(seconds)}, and what earlier starts had done is not in it.`,
        run: (laboratory) => compareMethods(laboratory, { ...study, methods, otherPrompts }, context),
      },
      rest,
      context,
    );
    context.print(JSON.stringify({ report }, null, 2));
    return 0;
  },
});
