import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { type BenchmarkRecord, type CaseRecord, FORMAT, parseRecord } from '../record.js';
import { compareRecords, EXIT_STATUS } from './compare.js';

/** A case whose samples vary by `noise` around `time`, with floors that vary with the clock. */
function caseOf(id: string, time: number, noise = 0.01, clock = 1): CaseRecord {
  const wave = Array.from({ length: 9 }, (_, i) => 1 + noise * Math.sin(3 * i + id.length));
  return {
    id,
    family: 'f',
    precision: 'f32',
    kernels: ['K'],
    flops: 1,
    bytes: 1,
    seconds: wave.map((w) => time * w * clock),
    floors: wave.map(() => 0.5 * clock),
    peers: {},
    peerProblems: {},
    ofCeiling: 0.5 / time,
    discarded: 0,
  };
}

function record(cases: CaseRecord[], change: Partial<BenchmarkRecord> = {}): BenchmarkRecord {
  const device = { device: 'cpu', model: 'M', isa: 'avx2', threads: 2 };
  const rest = {
    git: null,
    machine: {},
    packages: {},
    peerVersions: null,
    peerProblem: 'none',
    summary: {},
    failures: {},
    argv: [],
  };
  return { format: FORMAT, suite: 'kernels', startedAt: '', seconds: 1, device, cases, ...rest, ...change };
}

t.test('verdicts', (t) => {
  const base = record([caseOf('a', 1), caseOf('b', 2)]);
  const verdict = (cases: CaseRecord[]): string => compareRecords(base, record(cases)).verdict;
  t.equal(verdict([caseOf('a', 1), caseOf('b', 2)]), 'same');
  t.equal(verdict([caseOf('a', 1.02), caseOf('b', 1.97)]), 'same', 'two percent is nothing');
  t.equal(verdict([caseOf('a', 1.3), caseOf('b', 2)]), 'slower');
  t.equal(verdict([caseOf('a', 1.3), caseOf('b', 1)]), 'slower', 'a gain elsewhere does not excuse a loss');
  t.equal(verdict([caseOf('a', 0.7), caseOf('b', 2)]), 'faster');
  t.equal(verdict([caseOf('a', 1, 0.6), caseOf('b', 2)]), 'ambiguous', 'noise is no verdict');
  t.equal(
    verdict([caseOf('a', 1, 0.01, 1.5), caseOf('b', 2, 0.01, 1.5)]),
    'same',
    'a slower clock is no regression',
  );
  t.end();
});

t.test('records that cannot be compared', (t) => {
  const base = record([caseOf('a', 1)]);
  const reasons = (next: BenchmarkRecord): string => {
    const comparison = compareRecords(base, next);
    t.equal(comparison.verdict, 'invalid');
    return comparison.reasons.join('; ');
  };
  t.match(reasons(record([caseOf('b', 1)])), /no case is in both/);
  t.match(reasons(record([caseOf('a', 1)], { suite: 'models' })), /different suites/);
  t.match(
    reasons(record([caseOf('a', 1)], { device: { device: 'cpu', model: 'N', isa: 'avx2', threads: 2 } })),
    /model M and N/,
  );
  t.match(
    reasons(record([caseOf('a', 1)], { failures: { c: 'Error: no\n  at x' } })),
    /^c failed: Error: no$/,
  );
  const short = { ...caseOf('a', 1), seconds: [1, 1], floors: [0.5, 0.5] };
  t.match(reasons(record([short])), /no case has 5 steady samples/);
  t.match(reasons(record([{ ...caseOf('a', 1), seconds: Array(9).fill(Number.NaN) }])), /no case has 5/);
  t.end();
});

t.test('cases of one record alone are named, not judged', (t) => {
  const comparison = compareRecords(
    record([caseOf('a', 1), caseOf('gone', 1)]),
    record([caseOf('a', 1), caseOf('new', 9)]),
  );
  t.match(comparison, { verdict: 'same', onlyBase: ['gone'], onlyNext: ['new'] });
  t.equal(comparison.cases.length, 1);
  t.end();
});

t.test('what is no record is refused by what is wrong with it', (t) => {
  const good = record([caseOf('a', 1)]);
  const read = (change: object): BenchmarkRecord =>
    parseRecord(JSON.stringify({ ...good, ...change }), 'f.json');
  t.same(read({}), good);
  t.throws(() => read({ cases: [{ ...caseOf('a', 1), seconds: [1, null] }] }), {
    message: /f\.json: cases\.0\.seconds\.1: expected a benchmark record/,
  });
  t.throws(() => read({ cases: undefined }), { message: /f\.json: cases: expected a benchmark record/ });
  const { failures: _, ...first } = { ...good, format: 1 };
  t.same(parseRecord(JSON.stringify(first), 'f.json').failures, {}, 'format 1 is read');
  const baseline = new URL('../../baselines/cpu-zen5-avx512bf16.json', import.meta.url);
  const known = parseRecord(readFileSync(baseline, 'utf8'), 'baseline');
  t.equal(compareRecords(known, known).cases.length, known.cases.length);
  t.end();
});

t.test('the program ends with the status of its verdict', (t) => {
  const folder = t.testdir({
    'base.json': JSON.stringify(record([caseOf('a', 1)])),
    'slow.json': JSON.stringify(record([caseOf('a', 2)])),
    'noise.json': '[]',
    'cut.json': JSON.stringify(record([caseOf('a', 1)])).slice(0, 300),
    'future.json': JSON.stringify({ ...record([caseOf('a', 1)]), format: 3 }),
  });
  const program = fileURLToPath(new URL('./main.ts', import.meta.url));
  const run = (names: string[], ...more: string[]): { status: number | null; stderr: string } => {
    const words = [...names.map((name) => `${folder}/${name}.json`), ...more];
    return spawnSync(process.execPath, ['--import=tsx', '--conditions=equipoise-source', program, ...words], {
      encoding: 'utf8',
    });
  };
  const verdict = `${folder}/verdict.json`;
  t.equal(run(['base', 'slow'], '--json', verdict).status, EXIT_STATUS.slower);
  t.match(JSON.parse(readFileSync(verdict, 'utf8')), {
    format: 1,
    verdict: 'slower',
    cases: [{ id: 'a', verdict: 'slower' }],
  });
  t.equal(run(['slow', 'base']).status, EXIT_STATUS.faster);
  const refused: [string[], RegExp][] = [
    [['base', 'noise'], /noise\.json: expected a record that a benchmark wrote with --json/],
    [['base', 'cut'], /cut\.json: expected valid JSON, got a syntax error/],
    [['future', 'base'], /future\.json: format: expected 1 or 2, got 3\n.*another version/],
    [['base', 'absent'], /ENOENT.*absent\.json/],
    [['base'], /--new: expected non-empty text, got nothing/],
  ];
  for (const [names, message] of refused)
    t.match(run(names), { status: EXIT_STATUS.invalid, stderr: message }, names.join(' '));
  t.equal(new Set(Object.values(EXIT_STATUS)).size, 5);
  t.end();
});
