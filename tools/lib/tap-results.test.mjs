import t from 'tap';
import { readTap } from './tap-results.mjs';

const read = (t, lines, files) =>
  readTap(`${t.testdir({ 'results.tap': lines.join('\n') })}/results.tap`, files);

t.test('leaf assertions are summed over files', (t) => {
  const lines = [
    'TAP version 14',
    '# Subtest: a',
    '    ok 1 - x',
    '    # Subtest: s',
    '        ok 1 - y',
    '        1..1',
    '    ok 2 - s',
    '    1..2',
    'ok 1 - a',
    '# Subtest: b',
    '    ok 1 - z',
    '    1..1',
    'ok 2 - b',
    '1..2',
    '',
  ];
  t.match(read(t, lines, ['a', 'b']), { passed: 3, failed: 0, problems: [], skipped: [] });
  t.end();
});

t.test('a failed assertion counts once and is named with its path', (t) => {
  const lines = [
    'TAP version 14',
    '# Subtest: a',
    '    ok 1 - x',
    '    # Subtest: s',
    '        not ok 1 - y',
    '        1..1',
    '    not ok 2 - s',
    '    1..2',
    'not ok 1 - a',
    '  ---',
    '  exitCode: 1',
    '  ...',
    '1..1',
    '',
  ];
  t.same(read(t, lines, ['a']), { passed: 1, failed: 1, problems: ['a > s > y'], skipped: [] });
  t.end();
});

t.test('a file that dies after its last assertion is a failure', (t) => {
  const lines = [
    'TAP version 14',
    '# Subtest: a',
    '    ok 1 - x',
    '    1..1',
    'not ok 1 - a',
    '  ---',
    '  signal: SIGSEGV',
    '  ...',
    '1..1',
    '',
  ];
  t.match(read(t, lines, ['a']), { passed: 1, failed: 1, problems: ['a: ended by SIGSEGV'] });
  const unfinished = lines.filter((line) => line !== '    1..1');
  t.match(read(t, unfinished, ['a']), { passed: 1, failed: 1, problems: ['a: ended by SIGSEGV'] });
  t.end();
});

t.test('a file or a whole workspace that did not run is a failure', (t) => {
  const lines = ['TAP version 14', '# Subtest: a', '    ok 1 - x', '    1..1', 'ok 1 - a', '1..1', ''];
  t.match(read(t, lines, ['a', 'b']), { passed: 1, failed: 1, problems: ['b did not run'] });
  t.match(readTap(`${t.testdirName}/absent.tap`, ['a']), {
    failed: 1,
    problems: ['its tests left no results'],
  });
  t.match(readTap(`${t.testdirName}/absent.tap`, []), { failed: 1, problems: ['has no tests'] });
  t.end();
});

t.test('an empty test file is a failure', (t) => {
  const lines = ['TAP version 14', 'ok 1 - a # SKIP no tests found', '1..1', ''];
  t.match(read(t, lines, ['a']), { passed: 0, failed: 1, problems: ['a has no tests'], skipped: [] });
  t.end();
});

t.test('skips keep their reason', (t) => {
  const lines = [
    'TAP version 14',
    '# Subtest: a',
    '    ok 1 - x',
    '    ok 2 - gpu # SKIP no CUDA device',
    '    1..2',
    'ok 1 - a',
    '1..1',
    '',
  ];
  t.match(read(t, lines, ['a']), { failed: 0, skipped: [{ name: 'a > gpu', reason: 'no CUDA device' }] });
  t.end();
});
