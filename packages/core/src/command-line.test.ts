import t from 'tap';
import { defineOptions, option, readCommandLine, z } from './index.js';

const options = defineOptions('bench', {
  suite: option(z.enum(['kernels', 'dispatch']), 'What to time.'),
  rounds: option(z.int().min(3).default(9), 'Rounds.'),
  pythonPath: option(z.string().optional(), 'Python.'),
  peers: option(z.boolean().default(true), 'Leave out peers.'),
  update: option(z.boolean().default(false), 'Write the card.'),
});

t.test('words of a command line by schema', async (t) => {
  const read = (...words: string[]) => readCommandLine(options, ['--suite', 'kernels', ...words]);
  t.same(read(), { suite: 'kernels', rounds: 9, peers: true, update: false });
  t.match(read('--rounds=5', '--python-path', 'p', '--no-peers', '--update'), {
    rounds: 5,
    pythonPath: 'p',
    peers: false,
    update: true,
  });
  const refused: [string[], RegExp][] = [
    [['--rounds', '1'], /--rounds: expected an integer of at least 3, got 1/],
    [['--rounds'], /--rounds: expected an integer of at least 3, got true/],
    [['--roundz', '3'], /--roundz: expected a known option/],
    [['kernels'], /bench: expected options only, got "kernels"/],
  ];
  for (const [words, message] of refused) t.throws(() => read(...words), { code: 'invalid', message });
  t.throws(() => readCommandLine(options, []), /--suite: expected one of "kernels", "dispatch", got nothing/);
});

t.test('words that need no flag, and options that may be repeated', async (t) => {
  const set = defineOptions('compare', {
    base: option(z.string(), 'Before.'),
    next: option(z.string(), 'After.'),
    cases: option(z.array(z.string()).default([]), 'Cases.', { whole: true }),
  });
  const read = (...words: string[]) => readCommandLine(set, words, undefined, ['base', 'next']);
  t.same(read('a', '--cases', 'x,y', 'b', '--cases', 'z'), { base: 'a', next: 'b', cases: ['x,y', 'z'] });
  t.throws(() => read('a'), { message: /--next: expected text, got nothing/ });
  t.throws(() => read('a', 'b', '--cases'), { message: /--cases: expected a list, each text, got true/ });
  t.throws(() => read('a', 'b', 'c'), { message: /compare: expected BASE NEXT, got "c"/ });
});

t.test('help instead of values', async (t) => {
  const printed: string[] = [];
  t.equal(
    readCommandLine(options, ['--help', '--rounds', '1'], (text) => void printed.push(text)),
    undefined,
  );
  t.equal(
    printed.join('\n'),
    [
      'bench',
      '',
      '  --suite        What to time. (required)',
      '  --rounds       Rounds. (default 9)',
      '  --python-path  Python.',
      '  --no-peers     Leave out peers.',
      '  --update       Write the card.',
    ].join('\n'),
  );
});
