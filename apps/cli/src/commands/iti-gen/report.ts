import { basename, join, resolve } from 'node:path';
import { defineOptions, invalid, option, prose, readJournal, readRunRecord, z } from '@equipoise/core';
import type { StepLog } from '@equipoise/iti-gen';
import { type Section, writeReport } from '@equipoise/report';
import { defineCommand } from '../../command.js';
import { type EvaluationRecord, readEvaluation } from '../../iti-gen/evaluation-file.js';
import { evaluationSections, trainingSection } from '../../iti-gen/report-sections.js';

const options = defineOptions('iti-gen report', {
  runs: option(
    z.array(z.string()).min(1),
    'Run folders of iti-gen train and iti-gen evaluate; evaluations are shown side by side, in this order.',
    { placeholder: 'folder' },
  ),
  title: option(z.string().default('Inclusive prompts'), 'Heading of the report.'),
  out: option(z.string(), 'Folder for report.html, report.json and tables/*.csv.', { placeholder: 'folder' }),
});

export const itiGenReport = defineCommand({
  options,
  positionals: ['runs'],
  description:
    'Puts runs together: losses and direction cosines of trainings; histograms before and after, divergences, quality and grids per category of evaluations. One self-contained HTML file that fetches nothing, with the same numbers as JSON and CSV.',
  examples: ['equipoise iti-gen report runs/faces runs/before runs/after --out runs/report'],
  async run({ runs, title, out }, context) {
    const evaluations: EvaluationRecord[] = [];
    const trainings: Section[] = [];
    const settings: { name: string; text: string }[] = [];
    for (const folder of runs) {
      const record = await readRunRecord(folder);
      if (record === undefined)
        throw invalid(folder, 'a run folder (with run.json)', prose('another folder'), { code: 'missing' });
      if (record.command === 'iti-gen train') {
        const log = [...(await readJournal<StepLog[]>(join(folder, 'log.jsonl'))).values()].flat();
        if (log.length === 0) throw invalid(folder, 'at least one epoch', prose('none'), { code: 'missing' });
        trainings.push(trainingSection(basename(resolve(folder)), log));
      } else if (record.command === 'iti-gen evaluate') evaluations.push(await readEvaluation(folder));
      else throw invalid(folder, 'a run of iti-gen train or iti-gen evaluate', prose(record.command));
      settings.push({ name: folder, text: JSON.stringify(record.options, null, 2) });
    }
    const names = evaluations.map(({ name }) => name);
    const twice = names.find((name, i) => names.indexOf(name) !== i);
    if (twice !== undefined)
      throw invalid('runs', 'evaluations with different names', prose(`"${twice}" twice`), {
        hints: ['iti-gen evaluate --name says what images are called.'],
      });
    const report = await writeReport(out, {
      title,
      summary: summaryOf(evaluations, trainings.length),
      sections: [
        ...(await evaluationSections(evaluations)),
        ...trainings,
        {
          title: 'Settings',
          blocks: settings.map(({ name, text }) => ({ kind: 'details' as const, title: name, text })),
        },
      ],
    });
    context.print(JSON.stringify({ report, evaluations: names, trainings: trainings.length }, null, 2));
    return 0;
  },
});

function summaryOf(evaluations: readonly EvaluationRecord[], trainings: number): string {
  const said = evaluations.map(({ name, evaluation }) => {
    const last = evaluation.balance.at(-1);
    return `${name}: divergence of ${last?.attribute} to uniform ${last?.kl.value.toPrecision(3)} nats over ${evaluation.images} images`;
  });
  return said.length > 0 ? `${said.join('; ')}.` : `${trainings} training${trainings === 1 ? '' : 's'}.`;
}
