/** `npm run bench:compare -- BASE NEW`: the verdict on two benchmark records. Exit status: see EXIT_STATUS. */
import { readFile } from 'node:fs/promises';
import { defineOptions, formatError, option, readCommandLine, writeFileAtomic, z } from '@equipoise/core';
import { type BenchmarkRecord, parseRecord } from '../record.js';
import { type Comparison, compareRecords, EXIT_STATUS, FEWEST_SAMPLES } from './compare.js';

const options = defineOptions('bench:compare', {
  base: option(z.string().min(1), 'Record of before, or the first word.'),
  new: option(z.string().min(1), 'Record of now, or the second word.'),
  json: option(z.string().min(1).optional(), 'File for the verdict of each case as JSON.'),
});

async function readRecord(file: string): Promise<BenchmarkRecord> {
  return parseRecord(await readFile(file, 'utf8'), file);
}

function print({ verdict, reasons, cases, ratio, onlyBase, onlyNext }: Comparison): void {
  for (const { id, verdict: one, ratio: r, low, high } of cases) {
    const figures =
      one === 'invalid'
        ? `fewer than ${FEWEST_SAMPLES} steady samples`
        : `${r.toFixed(3)}x  [${low.toFixed(3)}, ${high.toFixed(3)}]`;
    console.log(`${one.padEnd(9)} ${id.padEnd(46)} ${figures}`);
  }
  if (onlyBase.length > 0) console.log(`in the first record alone: ${onlyBase.join('; ')}`);
  if (onlyNext.length > 0) console.log(`in the second record alone: ${onlyNext.join('; ')}`);
  for (const reason of reasons) console.log(reason);
  const mean = Number.isNaN(ratio) ? '' : ` (geometric mean of times ${ratio.toFixed(3)}x)`;
  console.log(`${verdict}${mean}`);
}

try {
  const settings = readCommandLine(options, process.argv.slice(2), undefined, ['base', 'new']);
  if (settings !== undefined) {
    const comparison = compareRecords(await readRecord(settings.base), await readRecord(settings.new));
    print(comparison);
    const { verdict } = comparison;
    if (settings.json !== undefined)
      await writeFileAtomic(settings.json, `${JSON.stringify({ format: 1, ...comparison }, null, 2)}\n`);
    process.exitCode = EXIT_STATUS[verdict];
  }
} catch (error) {
  console.error(formatError(error));
  process.exitCode = EXIT_STATUS.invalid;
}
