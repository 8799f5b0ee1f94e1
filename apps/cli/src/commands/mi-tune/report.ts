import { join } from 'node:path';
import { defineOptions, exists, option, z } from '@equipoise/core';
import { runReport } from '@equipoise/mi-tune';
import { writeReport } from '@equipoise/report';
import { defineCommand } from '../../command.js';

const options = defineOptions('mi-tune report', {
  run: option(z.string(), 'Folder of mi-tune run or mi-tune train.', { placeholder: 'folder' }),
  evaluations: option(
    z.array(z.string()).default([]),
    'Evaluations to compare, NAME=FOLDER, the base model first.',
    { whole: true },
  ),
  out: option(z.string().optional(), 'Folder of the report. Default: report/ in the run.', {
    placeholder: 'folder',
  }),
});

export const miTuneReport = defineCommand({
  options,
  positionals: ['run', 'evaluations'],
  description:
    'Writes report.html of a run: what every round chose, losses, validation, and models compared per category, with all numbers as JSON and CSV.',
  examples: ['equipoise mi-tune report runs/color base=runs/base "round 3=runs/tuned"'],
  async run({ run, evaluations, out }, context) {
    const named: { name: string; folder: string }[] = [];
    for (const text of evaluations) {
      const match = (await exists(text)) ? null : /^([^=]+)=(.+)$/.exec(text);
      named.push(
        match === null
          ? { name: text, folder: text }
          : { name: match[1] as string, folder: match[2] as string },
      );
    }
    const report = await writeReport(out ?? join(run, 'report'), await runReport(run, named));
    context.print(JSON.stringify({ report }));
    return 0;
  },
});
