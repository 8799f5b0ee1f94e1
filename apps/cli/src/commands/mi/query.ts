import { defineOptions, option, z } from '@equipoise/core';
import { queryScores } from '@equipoise/mi-tune';
import { toCsv, toMarkdown } from '@equipoise/report';
import { defineCommand } from '../../command.js';

const options = defineOptions('mi query', {
  sql: option(z.string().min(1), 'Query over the table `scores`.'),
  sweeps: option(z.array(z.string()).min(1), 'Folders of sweeps, or Parquet files.'),
  format: option(z.enum(['markdown', 'csv', 'json']).default('markdown'), 'How the answer is printed.'),
});

export const miQuery = defineCommand({
  options,
  positionals: ['sql', 'sweeps'],
  description:
    'Asks sweeps in SQL (DuckDB). Columns: prompt, prompt_index, candidate, seed, mi, further scores by name, model, adapter, options.',
  examples: [
    'equipoise mi query "SELECT prompt, max(mi), arg_max(seed, mi) FROM scores GROUP BY prompt" runs/sweep',
  ],
  async run({ sql, sweeps, format }, context) {
    const { columns, rows } = await queryScores(sweeps, sql, context.note);
    const table = { title: 'scores', columns, rows };
    if (format === 'csv') context.print(toCsv(table).trimEnd());
    else if (format === 'markdown') context.print(toMarkdown(table).trimEnd());
    else
      context.print(
        JSON.stringify(
          rows.map((row) => Object.fromEntries(columns.map((column, i) => [column, row[i]]))),
          null,
          2,
        ),
      );
    return 0;
  },
});
