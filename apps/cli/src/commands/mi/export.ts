import { defineOptions, option, z } from '@equipoise/core';
import { exportScores } from '@equipoise/mi-tune';
import { defineCommand } from '../../command.js';

const options = defineOptions('mi export', {
  sweep: option(z.string(), 'Folder of a sweep, also of one that is still running.', {
    placeholder: 'folder',
  }),
  out: option(z.string().optional(), 'File, .parquet or .csv. Default: scores.parquet in the folder.', {
    placeholder: 'file',
  }),
});

export const miExport = defineCommand({
  options,
  positionals: ['sweep', 'out'],
  description: 'Writes the scores that a sweep has so far as one table.',
  examples: ['equipoise mi export runs/sweep scores.csv'],
  async run({ sweep, out }, context) {
    context.print(JSON.stringify({ scores: await exportScores(sweep, out, context.note) }));
    return 0;
  },
});
