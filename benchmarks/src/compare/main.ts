/** `npm run bench:compare -- BASE NEW`: the verdict on two benchmark records. Exit status: see EXIT_STATUS. */
import { readFile } from 'node:fs/promises';
import type { BenchmarkRecord } from '../record.js';
import { type Comparison, compareRecords, EXIT_STATUS } from './compare.js';

async function readRecord(file: string): Promise<BenchmarkRecord> {
  const record = JSON.parse(await readFile(file, 'utf8')) as BenchmarkRecord;
  if (typeof record !== 'object' || record === null || !Array.isArray(record.cases)) {
    throw new Error(`${file}: expected a benchmark record, got something else`);
  }
  return record;
}

function print({ verdict, reasons, cases, ratio }: Comparison): void {
  for (const { id, verdict: one, ratio: r, low, high } of cases) {
    console.log(
      `${one.padEnd(9)} ${id.padEnd(46)} ${r.toFixed(3)}x  [${low.toFixed(3)}, ${high.toFixed(3)}]`,
    );
  }
  for (const reason of reasons) console.log(reason);
  const mean = Number.isNaN(ratio) ? '' : ` (geometric mean of times ${ratio.toFixed(3)}x)`;
  console.log(`${verdict}${mean}`);
}

try {
  const [base, next, ...rest] = process.argv.slice(2);
  if (base === undefined || next === undefined || rest.length > 0)
    throw new Error('bench:compare: expected BASE NEW, two files of `npm run bench -- --json FILE`');
  const comparison = compareRecords(await readRecord(base), await readRecord(next));
  print(comparison);
  process.exitCode = EXIT_STATUS[comparison.verdict];
} catch (error) {
  console.error((error as Error).message);
  process.exitCode = EXIT_STATUS.invalid;
}
