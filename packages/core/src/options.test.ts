import t from 'tap';
import { z } from 'zod';
import {
  camelCase,
  defineOptions,
  EquipoiseError,
  invalid,
  kebabCase,
  type OptionsOf,
  option,
} from './index.js';

const generate = defineOptions(
  'generate',
  {
    prompt: option(z.string().min(1), 'What to draw.'),
    steps: option(z.int().min(1).max(1000).default(50), 'Denoising steps.'),
    guidanceScale: option(z.number().min(0).default(7.5), 'Guidance | strength.', { group: 'Sampling' }),
    sampler: option(z.enum(['ddim', 'pndm']).default('pndm'), 'Which sampler.'),
    eta: option(z.number().gt(0).lt(1).optional(), 'Stochasticity of ddim.'),
    sizes: option(z.array(z.int().min(8).multipleOf(8)).min(1).default([512]), 'Sizes.'),
    tiles: option(z.boolean().default(true), 'Decode in tiles.'),
    pair: option(z.array(z.number()).length(2).optional(), 'Two numbers.', { hidden: true }),
  },
  (options, name) => {
    if (options.eta !== undefined && options.sampler !== 'ddim') {
      throw invalid(name('eta'), 'nothing unless the sampler is "ddim"', options.eta);
    }
  },
);

function refusal(run: () => unknown): EquipoiseError {
  try {
    run();
  } catch (error) {
    if (error instanceof EquipoiseError) return error;
    throw error;
  }
  throw new Error('was not refused');
}

t.test('defaults are filled in and the result is frozen', async (t) => {
  const options: OptionsOf<typeof generate> = generate.parse({ prompt: 'a cat' });
  t.strictSame(options, {
    prompt: 'a cat',
    steps: 50,
    guidanceScale: 7.5,
    sampler: 'pndm',
    sizes: [512],
    tiles: true,
  });
  t.ok(Object.isFrozen(options));
});

t.test('every refusal names option, expected and actual in one format', async (t) => {
  const cases: [unknown, string][] = [
    [{}, 'generate: prompt: expected non-empty text, got nothing'],
    [{ prompt: '' }, 'generate: prompt: expected non-empty text, got ""'],
    [{ prompt: 'x', steps: 0 }, 'generate: steps: expected an integer from 1 to 1000, got 0'],
    [{ prompt: 'x', steps: 1.5 }, 'generate: steps: expected an integer from 1 to 1000, got 1.5'],
    [{ prompt: 'x', steps: Number.NaN }, 'generate: steps: expected an integer from 1 to 1000, got NaN'],
    [{ prompt: 'x', guidanceScale: -1 }, 'generate: guidanceScale: expected a number of at least 0, got -1'],
    [{ prompt: 'x', sampler: 'dimm' }, 'generate: sampler: expected one of "ddim", "pndm", got "dimm"'],
    [{ prompt: 'x', eta: 1 }, 'generate: eta: expected a number above 0 and below 1, got 1'],
    [{ prompt: 'x', eta: 0.5 }, 'generate: eta: expected nothing unless the sampler is "ddim", got 0.5'],
    [
      { prompt: 'x', sizes: [] },
      'generate: sizes: expected a list (not empty), each an integer of at least 8 and divisible by 8, got []',
    ],
    [
      { prompt: 'x', sizes: [512, 9] },
      'generate: sizes[1]: expected an integer of at least 8 and divisible by 8, got 9',
    ],
    [{ prompt: 'x', tiles: 'no' }, 'generate: tiles: expected true or false, got "no"'],
    [{ prompt: 'x', pair: [1] }, 'generate: pair: expected a list of 2, each a number, got [1]'],
    [{ prompt: 'x', stepz: 3 }, 'generate: stepz: expected a known option, got an unknown one'],
    [[], 'generate: expected an object of options, got []'],
  ];
  for (const [input, message] of cases) t.equal(refusal(() => generate.parse(input)).message, message);
});

t.test('an unknown key names the nearest one, or all', async (t) => {
  t.strictSame(refusal(() => generate.parse({ prompt: 'x', guidancScale: 3 }, 'flags')).hints, [
    'Did you mean --guidance-scale?',
  ]);
  t.match(
    refusal(() => generate.parse({ prompt: 'x', zzzzzzzz: 3 })).hints[0],
    /^Known: prompt, steps, guidance-scale/,
  );
  const renamed = defineOptions('learn', { updates: option(z.int(), 'Updates.', { formerly: 'steps' }) });
  const { message, hints } = refusal(() => renamed.parse({ updates: 1, steps: 3 }, 'flags'));
  t.equal(message, '--steps: expected a known option, got an unknown one');
  t.strictSame(hints, ['Did you mean --updates?'], 'the name it has now, however different');
  const both = refusal(() => generate.parse({ prompt: 1, steps: 'a' }));
  t.equal(
    both.message,
    'generate: prompt: expected non-empty text, got 1\ngenerate: steps: expected an integer from 1 to 1000, got "a"',
  );
});

t.test('text from a command line is converted by type', async (t) => {
  const options = generate.parseText({
    prompt: '12',
    steps: '20',
    guidanceScale: '1e1',
    tiles: 'false',
    sizes: '256, 512',
    pair: ['1', '2'],
    eta: undefined,
  });
  t.match(options, {
    prompt: '12',
    steps: 20,
    guidanceScale: 10,
    tiles: false,
    sizes: [256, 512],
    pair: [1, 2],
  });
  t.equal(
    refusal(() => generate.parseText({ prompt: 'x', steps: '' })).message,
    '--steps: expected an integer from 1 to 1000, got ""',
  );
  t.equal(
    refusal(() => generate.parseText({ prompt: 'x', steps: '12px' })).message,
    '--steps: expected an integer from 1 to 1000, got "12px"',
  );
  t.equal(
    refusal(() => generate.parseText({ prompt: true })).message,
    '--prompt: expected non-empty text, got true',
  );
  t.match(
    refusal(() => generate.parseText({ prompt: 'x', sizes: true })).message,
    /^--sizes: expected .*, got true$/,
  );
  t.equal(
    refusal(() => generate.parseText({ prompt: 'x', constructor: 'y' })).message,
    '--constructor: expected a known option, got an unknown one',
  );
});

t.test('help comes from the same declaration', async (t) => {
  const infos = Object.fromEntries(generate.list().map((info) => [info.key, info]));
  t.match(infos['prompt'], { flag: '--prompt', required: true, description: 'What to draw.' });
  t.match(infos['steps'], { required: false, default: 50, expected: 'an integer from 1 to 1000' });
  t.match(infos['tiles'], { flag: '--no-tiles', kind: { type: 'boolean' } });
  t.match(infos['guidanceScale'], { flag: '--guidance-scale', group: 'Sampling' });
  t.match(infos['sampler'], { kind: { choices: ['ddim', 'pndm'] } });
  t.equal(kebabCase('guidanceScale'), 'guidance-scale');
  t.equal(camelCase('guidance-scale'), 'guidanceScale');
});

t.test('options that share a schema keep their own descriptions', async (t) => {
  const count = z.int().min(1).optional();
  const set = defineOptions('study', {
    seeds: option(count, 'How many seeds.'),
    rounds: option(count, 'How many rounds.', { group: 'Size' }),
  });
  t.match(set.list(), [
    { key: 'seeds', description: 'How many seeds.', group: undefined },
    { key: 'rounds', description: 'How many rounds.', group: 'Size' },
  ]);
});

t.test('extended sets keep fields and checks', async (t) => {
  const more = generate.extend('sweep', { count: option(z.int().min(1), 'How many.') }, (options, name) => {
    if (options.count > options.steps) throw invalid(name('count'), 'at most the steps', options.count);
  });
  t.equal(more.parse({ prompt: 'x', count: 3 }).count, 3);
  t.match(
    refusal(() => more.parse({ prompt: 'x', count: 51 })).message,
    'sweep: count: expected at most the steps, got 51',
  );
  t.match(refusal(() => more.parse({ prompt: 'x', count: 1, eta: 0.5 })).message, 'sweep: eta');
});
