import t from 'tap';
import { judge, select } from './judge.mjs';

const suite = {
  tfjsCore: '4.22.0',
  kernels: { must: ['Add'], nice: ['Tan'] },
  specs: { must: { 'ops/add': 2 }, nice: { 'ops/tan': 1 }, rest: { 'ops/fft': 1 } },
};
const spec = (file, name) => ({ file, name, key: `${file}: ${name}` });
const specs = [
  spec('ops/add', 'adds'),
  spec('ops/add', 'broadcasts'),
  spec('ops/tan', 'bends'),
  spec('ops/fft', 'turns'),
];
const passed = { status: 'passed', kernels: ['Add'], missing: [], foreign: [], failures: [] };
const options = { scope: 'nice', skips: [] };

/** A run in which all is well, with parts replaced. */
function run({ found = {}, results = {}, ...rest } = {}) {
  const all = Object.fromEntries(specs.slice(0, 3).map(({ key }) => [key, passed]));
  return {
    found: { version: '4.22.0', specs, kernels: ['Add', 'Tan'], borrowed: [], ...found },
    results: new Map(Object.entries({ ...all, ...results }).filter(([, result]) => result)),
    suiteFailures: [],
    ended: {},
    ...rest,
  };
}
const counts = (verdict) => [
  verdict.counts.passed,
  verdict.counts.failed,
  verdict.counts.missing,
  verdict.counts.skipped,
  verdict.counts.total,
];

t.test('a run in which all is well', (t) => {
  const verdict = judge(run(), suite, options);
  t.same(counts(verdict), [3, 0, 0, 0, 3]);
  t.same(verdict.problems, []);
  t.end();
});

t.test('scopes, patterns and skips select specs', (t) => {
  const keys = (o) => select(specs, suite, { skips: [], ...o }).selected.map(({ name }) => name);
  t.same(keys({ scope: 'must' }), ['adds', 'broadcasts']);
  t.same(keys({ scope: 'all' }), ['adds', 'broadcasts', 'bends', 'turns']);
  t.same(keys({ scope: 'nice', grep: '^b' }), ['broadcasts', 'bends']);
  const skips = [{ file: 'ops/tan', spec: 'bends', reason: 'why' }];
  t.same(keys({ scope: 'nice', skips }), ['adds', 'broadcasts']);
  t.match(judge(run({ results: { 'ops/tan: bends': undefined } }), suite, { scope: 'nice', skips }).skipped, [
    { name: 'bends', reason: 'why' },
  ]);
  t.end();
});

t.test('what became of a spec', (t) => {
  const one = (result) => {
    const verdict = judge(
      run({ results: { 'ops/add: adds': result && { ...passed, ...result } } }),
      suite,
      options,
    );
    return verdict.specs[0];
  };
  t.match(one({ status: 'failed', failures: ['1 is not 2'] }), { status: 'failed', message: '1 is not 2' });
  t.match(one({ status: 'crashed', failures: ['killed by SIGSEGV'] }), {
    status: 'failed',
    message: /SIGSEGV/,
  });
  t.match(one({ missing: ['Sub'] }), { status: 'missing', message: /needs Sub/ }, 'even when it passed');
  t.match(one({ foreign: ['cpu:Add'] }), { status: 'failed', message: /another backend: cpu:Add/ });
  t.match(one({ status: 'pending' }), { status: 'failed', message: /not in the skip list/ });
  t.match(one(undefined), { status: 'failed', message: /never reported/ });
  t.end();
});

t.test('runs that prove nothing', (t) => {
  const problems = (changes, o = options) => judge(run(changes), suite, o).problems;
  t.match(problems({ ended: undefined }), [/did not come to its end/]);
  t.match(problems({ ended: { incomplete: 'No specs found' } }), [/No specs found/]);
  t.match(problems({ gaveUp: 'gave up after 2' }), [/gave up/]);
  t.match(problems({ suiteFailures: [{ name: 'ops', failures: ['beforeAll'] }] }), [/ops: beforeAll/]);
  t.match(problems({ found: { specs: specs.slice(1) } }), [/ops\/add: 1 specs found, at least 2/]);
  t.match(problems({ found: { version: '5.0.0' } }), [/tfjs-core is 5\.0\.0/]);
  t.match(problems({ found: { kernels: ['Add'] } }), [/not registered: Tan/]);
  t.same(problems({ found: { kernels: ['Add'] } }, { ...options, scope: 'must' }), []);
  t.match(problems({ found: { borrowed: ['Add'] } }), [/functions of another backend: Add/]);
  t.match(problems({}, { ...options, grep: 'nothing' }), [/no spec was selected/]);
  t.match(problems({}, { ...options, skips: [{ file: 'ops/add', spec: 'gone', reason: 'old' }] }), [
    /'ops\/add: gone', which no spec is called/,
  ]);
  t.match(problems({}, { ...options, skips: [{ file: 'ops/fft', spec: 'turns' }] }), [/no reason/]);
  const idle = Object.fromEntries(specs.map(({ key }) => [key, { ...passed, kernels: [] }]));
  t.match(problems({ results: idle }), [/not one passed spec ran a kernel/]);
  t.end();
});
