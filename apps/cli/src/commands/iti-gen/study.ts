import { option, z } from '@equipoise/core';
import {
  studyDirections,
  studyDrift,
  studyInterference,
  studyReferences,
  studySingle,
} from '@equipoise/iti-gen';
import type { Section } from '@equipoise/report';
import { defineCommand, GOES_ON } from '../../command.js';
import { benchOptions, parseSets } from '../../iti-gen/bench-options.js';
import { duration, runExperiment, studyOptions } from '../../iti-gen/experiments.js';

const CHECKS = ['directions', 'references', 'interference', 'single', 'drift'] as const;

const options = benchOptions.extend('iti-gen study', {
  checks: option(
    z
      .array(z.enum(CHECKS))
      .min(1)
      .default([...CHECKS]),
    'Which ones.',
  ),
  sets: option(
    z.array(z.string()).min(1).default(['eyeglasses', 'skinTone', 'skinTone+eyeglasses']),
    'Attributes; those joined by + are learned together.',
  ),
  single: option(z.string().default('eyeglasses'), 'Attribute of the check "single".'),
  counts: option(
    z.array(z.int().min(1)).min(1).default([5, 25, 50, 100]),
    'References of the check "references".',
  ),
  lambdas: option(
    z.array(z.number().min(-1).max(1)).min(1).default([0, 0.6, 0.7, 0.8, 0.9]),
    'Values of the check "drift".',
  ),
});

export const itiGenStudy = defineCommand({
  options,
  description:
    'Checks what the method rests on. directions: cosines between learned prompt directions and image directions of all pairs, also on unseen references; references: 5, 25, 50 and 100 of them; interference: attributes alone and together; single: one attribute before and after; drift: similarity to the plain prompt against lambda.\n\nWrites report.html with tables and plots, report.json and CSV. Cells are shared with earlier starts in the same folder.',
  examples: [
    'equipoise iti-gen study --out runs/study --seeds 0',
    'equipoise iti-gen study --out runs/study --checks references --sets eyeglasses --images 120',
  ],
  stopped: GOES_ON,
  async run(given, context) {
    const { checks, sets, single, counts, lambdas, ...rest } = given;
    const study = studyOptions(rest, parseSets(sets, '--sets'));
    const report = await runExperiment(
      {
        command: 'iti-gen study',
        title: 'What ITI-GEN rests on',
        summary: (seconds) =>
          `${checks.join(', ')}; ${study.seeds.length} seeds, ${study.images} images a cell; this start took ${duration(seconds)}.`,
        async run(laboratory) {
          const sections: Section[] = [];
          for (const check of CHECKS.filter((own) => checks.includes(own))) {
            if (check === 'directions') sections.push(await studyDirections(laboratory, study, context));
            if (check === 'references')
              sections.push(await studyReferences(laboratory, study, counts, context));
            if (check === 'interference') sections.push(await studyInterference(laboratory, study, context));
            if (check === 'single') sections.push(await studySingle(laboratory, study, single, context));
            if (check === 'drift') sections.push(await studyDrift(laboratory, study, lambdas, context));
          }
          return sections;
        },
      },
      rest,
      context,
    );
    context.print(JSON.stringify({ report }, null, 2));
    return 0;
  },
});
