import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import type { BenchmarkRecord, CaseRecord } from '../record.js';
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
    argv: [],
  };
  return { format: 1, suite: 'kernels', startedAt: '', seconds: 1, device, cases, ...rest, ...change };
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
  t.match(reasons(record([caseOf('a', 1)], { format: 2 as never })), /format 1/);
  const short = { ...caseOf('a', 1), seconds: [1, 1], floors: [0.5, 0.5] };
  t.match(reasons(record([short])), /no case has 5 steady samples/);
  t.match(reasons(record([{ ...caseOf('a', 1), seconds: Array(9).fill(Number.NaN) }])), /no case has 5/);
  t.end();
});

t.test('the program ends with the status of its verdict', (t) => {
  const folder = t.testdir({
    'base.json': JSON.stringify(record([caseOf('a', 1)])),
    'slow.json': JSON.stringify(record([caseOf('a', 2)])),
    'noise.json': '[]',
  });
  const program = fileURLToPath(new URL('./main.ts', import.meta.url));
  const run = (...names: string[]): number | null => {
    const files = names.map((name) => `${folder}/${name}.json`);
    return spawnSync(process.execPath, ['--import=tsx', '--conditions=equipoise-source', program, ...files])
      .status;
  };
  t.equal(run('base', 'slow'), EXIT_STATUS.slower);
  t.equal(run('slow', 'base'), EXIT_STATUS.faster);
  t.equal(run('base', 'noise'), EXIT_STATUS.invalid);
  t.equal(new Set(Object.values(EXIT_STATUS)).size, 5);
  t.end();
});
