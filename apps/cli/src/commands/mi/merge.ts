import { join } from 'node:path';
import { defineOptions, option, z } from '@equipoise/core';
import { mergeSweeps, PARQUET } from '@equipoise/mi-tune';
import { defineCommand, GOES_ON } from '../../command.js';

const options = defineOptions('mi merge', {
  shards: option(z.array(z.string()).min(1), 'Folders of all shards of one sweep, in any order.'),
  out: option(z.string(), 'Folder of the whole sweep.', { placeholder: 'folder' }),
});

export const miMerge = defineCommand({
  options,
  positionals: ['shards'],
  description:
    'Joins the shards of a sweep to the folder that the whole sweep would have left. Shards of other sweeps, missing and damaged ones are refused.',
  examples: ['equipoise mi merge runs/sweep-1 runs/sweep-2 runs/sweep-3 --out runs/sweep'],
  stopped: GOES_ON,
  async run({ shards, out }, context) {
    const rows = await mergeSweeps(out, shards, context);
    context.print(JSON.stringify({ scores: join(out, PARQUET), candidates: rows.length }, null, 2));
    return 0;
  },
});
