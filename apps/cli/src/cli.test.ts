import { defineOptions, EquipoiseError, option, z } from '@equipoise/core';
import t from 'tap';
import { commands as allCommands } from './commands/index.js';
import { type CommandEntry, defineCommand, runCli } from './index.js';
import { StopRequest } from './stop.js';

const options = defineOptions('draw', {
  prompts: option(z.array(z.string()).min(1), 'What to draw.'),
  steps: option(z.int().min(1).max(100).default(20), 'Denoising steps.', { short: 's' }),
  guidance: option(z.number().default(7.5), 'Guidance scale.', { group: 'Sampling' }),
  seeds: option(z.array(z.int()).default([0]), 'Seeds.', { group: 'Sampling' }),
  safe: option(z.boolean().default(true), 'Write nothing that exists.'),
  json: option(z.boolean().default(false), 'Print JSON.'),
});

/** A table with one command, and what it was called with. */
function table(): { commands: Record<string, CommandEntry>; calls: unknown[]; loads: string[] } {
  const calls: unknown[] = [];
  const loads: string[] = [];
  const draw = defineCommand({
    options,
    positionals: ['prompts'],
    description: 'Draws pictures.\n\nSlowly.',
    examples: ['equipoise draw "a cat"'],
    async run(values, { print }) {
      calls.push({ ...values });
      if (values.steps === 12)
        throw new RangeError('conv2d: allocation of 9 bytes exceeds the memory limit of 8 bytes');
      if (values.steps === 11) throw new RangeError('Invalid array length');
      if (values.steps === 13) throw new EquipoiseError('missing', 'model: expected a folder, got nothing');
      print('done');
      return values.steps === 14 ? 9 : 0;
    },
  });
  const entry = (name: string): CommandEntry => ({
    summary: `About ${name}`,
    load: async () => {
      loads.push(name);
      return draw;
    },
  });
  return { commands: { draw: entry('draw'), paint: entry('paint') }, calls, loads };
}

async function run(
  argv: string[],
  commands?: Record<string, CommandEntry>,
): Promise<{ status: number; out: string; err: string }> {
  const out: string[] = [];
  const err: string[] = [];
  const status = await runCli(argv, {
    print: (line) => void out.push(line),
    note: (line) => void err.push(line),
    signal: new AbortController().signal,
    ...(commands && { commands }),
  });
  return { status, out: out.join('\n'), err: err.join('\n') };
}

t.test('flags, lists, negations, short flags and positionals reach the schema', async (t) => {
  const { commands, calls } = table();
  const words = [
    'draw',
    'a cat',
    'a dog',
    '-s',
    '5',
    '--guidance=-1.5',
    '--seeds',
    '1,2',
    '--seeds',
    '3',
    '--no-safe',
    '--json',
  ];
  t.match(await run(words, commands), { status: 0, out: 'done', err: '' });
  t.same(calls, [
    { prompts: ['a cat', 'a dog'], steps: 5, guidance: -1.5, seeds: [1, 2, 3], safe: false, json: true },
  ]);
  t.match(await run(['draw', '--prompts', 'x', 'y'], commands), {
    status: 2,
    err: /--prompts: expected to be given once/,
  });
  await run(['draw', '--guidance', '-2', '--', '--x'], commands);
  t.match(calls[1], { prompts: ['--x'], guidance: -2 });
});

t.test('bad words are refused by name, with the nearest known one', async (t) => {
  const { commands, calls } = table();
  const refused: [string[], RegExp][] = [
    [['draw', 'x', '--step', '5'], /--step: expected a known option[\s\S]*Did you mean --steps\?/],
    [['draw', 'x', '--steps', 'many'], /--steps: expected an integer from 1 to 100, got "many"/],
    [['draw', 'x', '--steps'], /--steps: expected an integer from 1 to 100, got nothing/],
    [['draw', 'x', '--steps', '--json'], /--steps: expected an integer from 1 to 100, got "--json"/],
    [['draw', 'x', '--steps', '5', '--steps', '6'], /--steps: expected to be given once/],
    [['draw', 'x', '--steps', '0'], /--steps: expected an integer from 1 to 100, got 0/],
    [['draw'], /--prompts: expected a list/],
    [['draw', 'x', '--json=maybe'], /--json: expected true or false, got "maybe"/],
    [['drow', 'x'], /command: expected one of draw, paint, got "drow"[\s\S]*Did you mean draw\?/],
  ];
  for (const [words, message] of refused) {
    const { status, err } = await run(words, commands);
    t.match({ status, err }, { status: 2, err: message }, words.join(' '));
  }
  t.same(calls, []);
});

t.test('a command that is asked to stop does so, or is left behind', async (t) => {
  const options = defineOptions('wait', { heed: option(z.boolean().default(false), 'Whether it listens.') });
  const wait = defineCommand({
    options,
    description: 'Waits.',
    stopped: 'Wait again.',
    run: ({ heed }, { signal }) =>
      new Promise((_, reject) => {
        if (!heed) return;
        signal.addEventListener('abort', () => reject(new EquipoiseError('cancelled', 'waiting: cancelled')));
      }),
  });
  for (const [name, status] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const) {
    for (const heed of [true, false]) {
      const controller = new AbortController();
      const err: string[] = [];
      const running = runCli(['wait', ...(heed ? ['--heed'] : [])], {
        print: () => {},
        note: (line) => void err.push(line),
        signal: controller.signal,
        graceMs: heed ? 60_000 : 20,
        commands: { wait: { summary: 'Waits', load: async () => wait } },
      });
      await new Promise(setImmediate);
      controller.abort(new StopRequest(name));
      t.equal(await running, status, `${name}, ${heed ? 'heeded' : 'unheeded'}`);
      t.same(err, [
        'equipoise: stopping; once more stops at once',
        `equipoise: stopped by ${name}\n  hint: Wait again.`,
      ]);
    }
  }
});

t.test('exit statuses come from the command or the kind of error', async (t) => {
  const { commands } = table();
  t.equal((await run(['draw', 'x', '--steps', '14'], commands)).status, 9);
  t.match(await run(['draw', 'x', '--steps', '13'], commands), {
    status: 3,
    err: /model: expected a folder/,
  });
  const full = await run(['draw', 'x', '--steps', '12'], commands);
  t.match(full, { status: 1, err: /^equipoise: conv2d: allocation of 9 bytes.*\n {2}hint: Smaller batches/ });
  t.notMatch(full.err, /\n {4}at /, 'no stack');
  t.match(await run(['draw', 'x', '--steps', '11'], commands), { status: 1, err: /Invalid.*\n {4}at / });
});

t.test('help comes from the schema, and loads only the command asked about', async (t) => {
  const { commands, loads } = table();
  const overview = await run(['--help'], commands);
  t.match(overview, { status: 0, out: /draw {3}About draw\n {2}paint {2}About paint/ });
  t.same(loads, []);
  const help = await run(['draw', '--help'], commands);
  t.same(loads, ['draw']);
  t.match(help.out, /Usage: equipoise draw <prompts\.\.\.> \[options\]/);
  t.match(help.out, /-s, --steps <n>\s+Denoising steps\. \(an integer from 1 to 100; default 20\)/);
  t.match(help.out, /Sampling:\n\s+--guidance/);
  t.match(help.out, /--\[no-\]safe\s+Write nothing that exists\. \(on by default\)/);
  t.equal((await run(['help', 'draw'], commands)).out, help.out);
  const [draw, paint] = [commands.draw as CommandEntry, commands.paint as CommandEntry];
  const families = { 'mi draw': draw, 'mi paint': paint, paint };
  t.match(await run(['help', 'mi', 'draw'], families), { status: 0, out: /Usage: equipoise mi draw </ });
  for (const [words, status] of [
    [['mi', '--help'], 0],
    [['help', 'mi'], 0],
    [['mi'], 2],
  ] as const) {
    const family = await run([...words], families);
    t.match(family, { status, out: /Usage: equipoise mi <command>[\s\S]*mi draw {3}About/, err: '' });
    t.notMatch(family.out, /^ {2}paint/m);
  }
});

t.test('every real command has help, and a version is told', async (t) => {
  const overview = await run(['--help']);
  for (const [name, entry] of Object.entries(allCommands)) {
    t.match(overview.out, new RegExp(`^ {2}${name} {2}`, 'm'), name);
    const { status, out } = await run([...name.split(' '), '--help']);
    t.equal(status, 0, name);
    t.match(out, `Usage: equipoise ${name}`);
    const texts = (await entry.load()).options.list().map(({ description }) => description);
    t.ok(
      texts.every((text) => /\w.*\.$/s.test(text)),
      `${name}: every option is described`,
    );
    t.equal(new Set(texts).size, texts.length, `${name}: by a text of its own`);
  }
  t.match(await run(['--version']), { status: 0, out: /^\d+\.\d+\.\d+$/ });
});

t.test('doctor reports versions, features, devices, limits and engines', async (t) => {
  const { status, out } = await run(['doctor', '--json']);
  t.equal(status, 0);
  const report = JSON.parse(out) as Record<string, never>;
  t.match(report, {
    version: /^\d/,
    machine: { node: process.version, cores: Number },
    tools: { cmake: /version/ },
    build: { cpu: { built: true } },
    memory: { totalBytes: Number },
    problems: [],
  });
  const [cpu, cuda] = report.addons as unknown as {
    device: string;
    problem: string | null;
    memoryLimitBytes: number;
  }[];
  t.match(cpu, {
    device: 'cpu',
    problem: null,
    description: { isa: /portable|avx2|avx512/ },
    path: /equipoise_cpu\.node$/,
  });
  t.ok((cpu?.memoryLimitBytes ?? 0) > 2 ** 20);
  t.equal(cuda?.device, 'cuda');
  t.same(
    (report.libraries as unknown as { name: string }[]).map((library) => library.name),
    ['libcuda', 'libcublasLt', 'libcudnn'],
  );
  t.match(report.engines, [{ name: 'equipoise-cpu', usable: true }]);
  const text = await run(['doctor']);
  t.match(text.out, /Device cpu[\s\S]*avx512[\s\S]*Device cuda[\s\S]*Engines[\s\S]*All is well/);
});
