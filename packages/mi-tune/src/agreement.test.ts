/** Whether measures agree, and scorers that are other programs. */
import type { RgbImage } from '@equipoise/models';
import t from 'tap';
import { agreementOf, externalScorer, rankedPicks, type SweepRow } from './index.js';

t.test('agreement of measures on the 1st, 2nd and 3rd candidate', (t) => {
  const row = (promptIndex: number, candidate: number, mi: number, a: number, b: number): SweepRow => ({
    prompt: `p${promptIndex}`,
    promptIndex,
    candidate,
    mi,
    scores: { a, b },
  });
  const table = [
    row(0, 0, 1, 10, 0),
    row(0, 1, 3, 30, 0),
    row(0, 2, 2, 20, 0),
    row(1, 0, 9, 2, 1),
    row(1, 1, 8, 3, 1),
    row(1, 2, 7, 1, 1),
  ];
  const picks = rankedPicks(table, [1, 2, 3]);
  t.same(
    picks.map((own) => own.map(({ candidate }) => candidate)),
    [
      [1, 2, 0],
      [0, 1, 2],
    ],
  );
  const [ma, mb, ab] = agreementOf(picks, ['mi', 'a', 'b']);
  // Prompt 0 agrees fully; of prompt 1's three pairs two agree: (1 + 1/3) / 2.
  t.ok(Math.abs((ma?.tau?.value as number) - 2 / 3) < 1e-12);
  t.same([mb?.tau, mb?.tied, ab?.tied], [undefined, 2, 2]);
  t.throws(() => rankedPicks(table, [1, 25, 50]), /ranks: expected whole numbers from 1 to the 3 candidates/);
  t.throws(() => rankedPicks(table, [1, 1]), /ranks: expected each rank once, got \[1, 1\]/);
  t.throws(() => agreementOf(picks, ['mi']), /measures: expected at least two to compare, got \["mi"\]/);
  t.throws(() => agreementOf(picks, ['mi', 'clip']), /measure: expected one of mi, a, b, got clip/);
  t.end();
});

t.test('a scorer that is another program', async (t) => {
  const images: RgbImage[] = [0, 1].map((i) => ({ width: 1, height: 1, data: Uint8Array.of(i, i, i) }));
  const program = (code: string) => externalScorer('outside', [process.execPath, '-e', code]);
  const counting = program(
    "const fs=require('fs');for(const l of fs.readFileSync(process.argv.at(-1),'utf8').trim().split('\\n')){const p=JSON.parse(l);console.log(p.prompt.length+fs.statSync(p.image).size*0)}",
  );
  t.same(await counting.score(images, ['ab', 'abcd']), [2, 4]);
  await t.rejects(program('console.log(1)').score(images, ['a', 'b']), {
    message: /scorer outside: expected 2 numbers, one per line, got 1 lines/,
  });
  await t.rejects(
    program('console.log("x\\n1")').score(images, ['a', 'b']),
    /line 1: expected a finite number, got "x"/,
  );
  await t.rejects(program('console.error("no model");process.exit(3)').score(images, ['a', 'b']), {
    code: 'io',
    message: /ended with status 3/,
    hints: ['no model'],
  });
  await t.rejects(externalScorer('none', ['/no/such/program']).score(images, ['a', 'b']), /cannot run/);
});
