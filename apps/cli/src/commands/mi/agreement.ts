import { defineOptions, invalid, option, prose, z } from '@equipoise/core';
import {
  agreementOf,
  PAPER_RANKS,
  rankedPicks,
  readSweep,
  requireComplete,
  sweepRows,
} from '@equipoise/mi-tune';
import { tableOf, toMarkdown } from '@equipoise/report';
import { defineCommand } from '../../command.js';

const options = defineOptions('mi agreement', {
  sweep: option(
    z.string(),
    'Folder of a sweep that recorded further scores (--picture-mi, --clip, --scorer).',
    {
      placeholder: 'folder',
    },
  ),
  ranks: option(
    z
      .array(z.int().min(1))
      .min(2)
      .default([...PAPER_RANKS]),
    'Which candidates of a prompt are compared, by their rank in MI.',
  ),
});

export const miAgreement = defineCommand({
  options,
  positionals: ['sweep'],
  description:
    "Compares measures of alignment by Kendall's tau: of every prompt, the candidates at the given ranks by MI are ranked by each measure.",
  examples: ['equipoise mi agreement runs/sweep --ranks 1,25,50'],
  async run({ sweep, ranks }, context) {
    const stored = await readSweep(sweep);
    requireComplete(stored);
    const measures = ['mi', ...stored.plan.scorers];
    if (measures.length < 2)
      throw invalid(sweep, 'a sweep that recorded further scores', prose('MI alone'), {
        hints: ['mi sweep records them with --picture-mi, --clip or --scorer.'],
      });
    const pairs = agreementOf(rankedPicks(sweepRows(stored), ranks), measures);
    const records = pairs.map(({ first, second, tau, tied }) => ({
      measures: `${first}, ${second}`,
      tau: tau?.value ?? null,
      '95 % low': tau?.low ?? null,
      '95 % high': tau?.high ?? null,
      prompts: tau?.count ?? 0,
      tied,
    }));
    const title = `Kendall's tau-b over candidates ${ranks.join(', ')}`;
    context.print(
      toMarkdown(
        tableOf(title, records, 'tied: prompts where a measure does not tell them apart.'),
      ).trimEnd(),
    );
    return 0;
  },
});
