/** Commands of MI-TUNE refuse what cannot work before a model is loaded, naming the option. */
import { join } from 'node:path';
import t from 'tap';
import { run } from '../testing/run-words.js';

const folder = t.testdir({ 'prompts.txt': 'a red circle\n', file: '' });
const at = (name: string): string => join(folder, name);
/** A model that is not there: what is refused after it would be opened is refused for that. */
const common = ['--model', at('no-model'), '--out', at('out')];
const prompts = ['--prompts', at('prompts.txt')];

const refusals: [status: number, expected: RegExp, ...words: string[]][] = [
  [
    2,
    /--top: expected at most the 4 candidates of a prompt, got 5/,
    'build',
    '--candidates',
    '4',
    '--top',
    '5',
  ],
  [2, /--top: expected at most the 50 candidates/, 'run', '--top', '51'],
  [2, /--keep: expected "last" without --validate, got "best"/, 'run', '--keep', 'best'],
  [2, /--choose: expected nothing without --validate, got "clip"/, 'run', '--choose', 'clip'],
  [2, /--choose: expected one of mi, picture_mi, got "clip"/, 'run', '--choose', 'clip', '--validate', 'x'],
  [2, /--select: expected one of mi, random, picture, got "clip"\n.*--clip/, 'run', '--select', 'clip'],
  [
    2,
    /--select: expected one of .*, length, got "other"/,
    'build',
    '--select',
    'other',
    '--scorer',
    'length=x',
  ],
  [2, /--scorer: expected a name of small letters.*got "Length"/, 'build', '--scorer', 'Length=x'],
  [2, /--scorer: expected a name other than the table's own/, 'build', '--scorer', 'mi=x'],
  [2, /--scorer: expected each name once, got "clip" twice/, 'build', '--scorer', 'clip=x', '--clip', 'x'],
  [2, /--scorer: expected NAME=COMMAND, got "length="/, 'build', '--scorer', 'length= '],
];

t.test('combinations of options', async (t) => {
  for (const [status, expected, command = '', ...words] of refusals) {
    const result = await run('mi-tune', command, ...common, ...prompts, ...words);
    t.equal(result.status, status, words.join(' '));
    t.match(result.err, expected);
  }
  const sweep = await run('mi', 'sweep', ...common, ...prompts, '--scorer', 'a=x', '--scorer', 'a=y');
  t.match(sweep, { status: 2, err: /--scorer: expected each name once, got "a" twice/ });
  for (const command of ['build', 'run', 'evaluate']) {
    const result = await run('mi-tune', command, ...common, '--prompts', at('none.txt'));
    t.match(result, { status: 3, err: /none\.txt: expected a readable prompt file/ }, command);
  }
  const train = await run('mi-tune', 'train', ...common, '--set', at('set'), '--choose', 'clip');
  t.match(train, { status: 2, err: /--choose: expected nothing without --validate/ });
});

t.test('options that are right get as far as the model', async (t) => {
  for (const words of [
    ['--select', 'picture'],
    ['--select', 'length', '--scorer', 'length=x'],
    ['--top', '50'],
  ]) {
    const result = await run('mi-tune', 'build', ...common, ...prompts, ...words);
    t.match(result, { status: 3, err: /no-model: no such folder/ }, words.join(' '));
  }
});

t.test('questions to what is no sweep, and no question', async (t) => {
  for (const source of [at('file'), at('nowhere'), folder])
    t.match(await run('mi', 'query', 'SELECT 1', source), {
      status: 3,
      err: /expected the folder of a sweep, with its run\.json/,
    });
  t.match(await run('mi', 'query', '', folder), { status: 2, err: /--sql: expected non-empty text, got ""/ });
});
