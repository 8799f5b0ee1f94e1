import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import {
  canonicalJson,
  compareCodePoints,
  describe,
  EquipoiseError,
  editDistance,
  exists,
  fillFolderAtomic,
  formatDuration,
  formatError,
  invalid,
  isCancelled,
  makeFolder,
  nearest,
  Pace,
  ProgressCounter,
  type ProgressEvent,
  parseJson,
  parsePythonJson,
  parseStrictJson,
  prose,
  pyFloat,
  pythonFloat,
  pythonJson,
  removeStaleTemporaries,
  roundHalfEven,
  sha256,
  sha256File,
  sha256Json,
  throwIfCancelled,
  withHints,
  writeFileAtomic,
  writeJsonAtomic,
} from './index.js';

t.test('errors: one message format, hints apart', async (t) => {
  const error = withHints(invalid('--steps', 'an integer', 'ten'), 'Write 10.');
  t.equal(error.message, '--steps: expected an integer, got "ten"');
  t.equal(error.code, 'invalid');
  t.equal(formatError(error), '--steps: expected an integer, got "ten"\n  hint: Write 10.');
  t.equal(invalid('a.bin', '8 bytes', prose('a file of 3 bytes'), { code: 'corrupt' }).code, 'corrupt');
  t.match(withHints(new TypeError('x'), 'Look.'), { code: 'internal', message: 'x', hints: ['Look.'] });
  t.match(formatError(new TypeError('plain')), /TypeError: plain\n +at /);
  const refusal = await readdir(join(t.testdir(), 'none')).catch((reason: unknown) => reason);
  t.match(formatError(refusal), /^ENOENT: no such file or directory, .*none'$/, 'no stack');
});

t.test('errors: any value can be shown, shortly', async (t) => {
  const loop: Record<string, unknown> = {};
  loop['self'] = loop;
  const cases: [unknown, string][] = [
    [undefined, 'nothing'],
    [null, 'null'],
    [-0, '-0'],
    [Number.NaN, 'NaN'],
    ['a"b', '"a\\"b"'],
    [12n, '12'],
    [[1, 'x', null], '[1, "x", null]'],
    [new Float32Array(10), '[0, 0, 0, 0, 0, 0, 0, 0, … 10 in all]'],
    [{ a: 1 }, '{"a":1}'],
    [loop, 'an object'],
    [() => 1, 'a function'],
    [Symbol('s'), 'a symbol'],
    [new Error('boom'), 'Error: boom'],
    [new Map(), '{}'],
  ];
  for (const [value, shown] of cases) t.equal(describe(value), shown);
  t.equal(describe('x'.repeat(1e6)).length, 120);
});

t.test('nearest names', async (t) => {
  t.equal(editDistance('kitten', 'sitting'), 3);
  t.equal(editDistance('', 'abc'), 3);
  t.equal(editDistance('ab', 'ba'), 1);
  t.equal(editDistance('abcdef', 'ghijkl', 2), 3);
  t.equal(nearest('setps', ['eta', 'steps', 'seed']), 'steps');
  t.equal(nearest('STEPS', ['step', 'steps']), 'steps');
  t.equal(nearest('guidance', ['steps', 'seed']), undefined);
  t.equal(nearest('x', []), undefined);
});

t.test('rounding to even, as numpy does', async (t) => {
  const cases: [number, number][] = [
    [0.5, 0],
    [1.5, 2],
    [2.5, 2],
    [-0.5, -0],
    [-1.5, -2],
    [-2.5, -2],
    [2.4999999999999996, 2],
    [0.49999999999999994, 0],
    [2 ** 51 + 0.5, 2 ** 51],
    [2 ** 51 + 1.5, 2 ** 51 + 2],
    [1e300, 1e300],
    [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY],
  ];
  for (const [x, rounded] of cases) t.equal(Math.abs(roundHalfEven(x)), Math.abs(rounded), `${x}`);
  t.equal(roundHalfEven(-1.2), -1);
  t.ok(Number.isNaN(roundHalfEven(Number.NaN)));
});

t.test('JSON as Python writes it', async (t) => {
  const floats: [number, string][] = [
    [1e-5, '1e-05'],
    [0.0001, '0.0001'],
    [0.00085, '0.00085'],
    [0.18215, '0.18215'],
    [1, '1.0'],
    [-2.5, '-2.5'],
    [123456.789, '123456.789'],
    [1e15, '1000000000000000.0'],
    [1e16, '1e+16'],
    [1.5e300, '1.5e+300'],
    [5e-324, '5e-324'],
    [-0, '-0.0'],
    [0, '0.0'],
    [0.1 + 0.2, '0.30000000000000004'],
    [Number.NEGATIVE_INFINITY, '-Infinity'],
  ];
  for (const [value, text] of floats) t.equal(pythonFloat(value), text);
  t.equal(
    pythonJson({
      b: [1, 2.5, pyFloat(7)],
      a: {},
      é: 'ü\u2028"\\\n\x7f😀',
      none: null,
      skip: undefined,
      list: [],
    }),
    '{\n  "a": {},\n  "b": [\n    1,\n    2.5,\n    7.0\n  ],\n  "list": [],\n  "none": null,\n' +
      '  "\\u00e9": "\\u00fc\\u2028\\"\\\\\\n\\u007f\\ud83d\\ude00"\n}',
  );
  t.equal(
    pythonJson({ b: 1, a: [true, 'x'] }, { indent: null, sortKeys: false }),
    '{"b": 1, "a": [true, "x"]}',
  );
  t.equal(pythonJson(2n ** 70n, { newline: true }), '1180591620717411303424\n');
  t.throws(() => pythonJson({ a: [Number.NaN] }), {
    message: 'value.a[0]: expected a finite number (JSON has no other), got NaN',
  });
  // U+FF5E sorts before U+1F600 by code point, after it by UTF-16 unit.
  t.ok(compareCodePoints('\uff5e', '😀') < 0);
  t.strictSame(['b', 'a', 'ab', ''].sort(compareCodePoints), ['', 'a', 'ab', 'b']);
  t.equal(canonicalJson({ b: [1, { d: null, c: 'x' }], a: undefined }), '{"b":[1,{"c":"x","d":null}]}');
  t.throws(() => parseJson('{"a":}', 'config.json'), {
    code: 'corrupt',
    message: /^config\.json: expected valid JSON/,
  });
});

t.test('strict JSON', async (t) => {
  t.strictSame(parseStrictJson('[true,false,null,"\\u00e9\\n\\/\\ud83d\\ude00"]', 'x'), [
    true,
    false,
    null,
    'é\n/😀',
  ]);
  for (const bad of [
    '',
    ' ',
    'nul',
    '01',
    '+1',
    '.5',
    '1.',
    '1e',
    '"a',
    '"\\x"',
    '"\\u12"',
    '{"a" 1}',
    '[1 2]',
    '[1,]',
    '{}x',
    "'a'",
  ]) {
    t.throws(() => parseStrictJson(bad, 'x'), { code: 'corrupt', message: /^x: expected valid JSON: / }, bad);
  }
});

t.test('JSON with Python floats survives reading and writing', async (t) => {
  const text = '{"a": 1.0, "b": [1, -0.0, 1e-05, 100000000000000000000000], "c": {"d": 0.5}, "e": 1e+16}';
  t.equal(pythonJson(parsePythonJson(text, 'x'), { indent: null }), text);
  t.strictSame(parsePythonJson('[1, 1.5, null]', 'x'), [1, pyFloat(1.5), null]);
});

t.test('hashes', async (t) => {
  const empty = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855';
  t.equal(sha256(''), empty);
  const path = join(t.testdir({ f: 'abc' }), 'f');
  t.equal(await sha256File(path), sha256('abc'));
  t.equal(sha256Json({ a: 1, b: 2 }), sha256Json({ b: 2, a: 1 }));
  t.not(sha256Json({ a: 1 }), sha256Json({ a: '1' }));
  t.equal(createHash('sha256').update('{"a":1}').digest('hex'), sha256Json({ a: 1 }));
});

t.test('atomic files: whole or absent', async (t) => {
  const folder = t.testdir({ old: 'before' });
  const path = join(folder, 'new/deep/file.json');
  await writeJsonAtomic(path, { b: 1, a: 2 });
  t.equal(await readFile(path, 'utf8'), '{\n  "a": 2,\n  "b": 1\n}\n');
  t.strictSame(await readdir(join(folder, 'new/deep')), ['file.json']);

  const failing = writeFileAtomic(join(folder, 'old'), async (file) => {
    await file.writeFile('half');
    throw new EquipoiseError('numeric', 'stop');
  });
  await t.rejects(failing, { code: 'numeric', message: 'stop' });
  t.equal(await readFile(join(folder, 'old'), 'utf8'), 'before');
  t.strictSame((await readdir(folder)).sort(), ['new', 'old']);

  await t.rejects(writeFileAtomic(join(folder, 'old/child'), 'x'), {
    code: 'io',
    message: /old\/child: cannot write/,
  });
  await mkdir(join(folder, 'taken'));
  await t.rejects(writeFileAtomic(join(folder, 'taken'), 'x'), {
    code: 'io',
    message: /taken: cannot write: a folder/,
  });
  t.strictSame((await readdir(folder)).sort(), ['new', 'old', 'taken']);

  // A path below a file, a circle of links, and a folder that takes no entries at all.
  await t.rejects(makeFolder(join(folder, 'old/child')), {
    code: 'io',
    message: /old\/child: cannot write: a part/,
  });
  await symlink('circle', join(folder, 'circle'));
  await t.rejects(makeFolder(join(folder, 'circle/child')), {
    code: 'io',
    message: /links lead in a circle/,
  });
  await rm(join(folder, 'circle'));
  await symlink('nowhere', join(folder, 'dangling'));
  await t.rejects(makeFolder(join(folder, 'dangling/child')), {
    code: 'io',
    message: /something of that name/,
  });
  await rm(join(folder, 'dangling'));
  if (process.platform !== 'win32') {
    execFileSync('mkfifo', [join(folder, 'pipe')]);
    await t.rejects(writeFileAtomic(join(folder, 'pipe'), 'x'), {
      code: 'io',
      message: /pipe: .* is a device or pipe/,
    });
    const filled = fillFolderAtomic(folder, async (to) => {
      await writeFileAtomic(join(to, 'deep/new'), 'x');
      await writeFileAtomic(join(to, 'pipe'), 'x');
    });
    await t.rejects(filled, {
      code: 'io',
      message: `${join(folder, 'pipe')}: cannot write: what is there is a device`,
    });
    await rm(join(folder, 'pipe'));
    t.strictSame((await readdir(folder)).sort(), ['new', 'old', 'taken'], 'nothing was moved');
  }
  if (process.platform === 'linux') {
    for (const made of [makeFolder('/proc/self/a/b'), writeFileAtomic('/proc/self/a/b', 'x')])
      await t.rejects(made, {
        code: 'io',
        message: /^\/proc\/self\/a\/b: cannot write: .* takes no new entries/,
      });
  }
  await Promise.all([makeFolder(join(folder, 'new/at/once')), makeFolder(join(folder, 'new/at/once/too'))]);
  t.equal(await exists(join(folder, 'new/at/once/too')), true);

  const full = writeFileAtomic(join(folder, 'old'), async () => {
    throw Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' });
  });
  await t.rejects(full, {
    code: 'io',
    message: /old: cannot write: the disk is full/,
    hints: [/Free some space/],
  });
  t.equal(await exists(join(folder, 'nothing')), false);
  t.equal(await exists(join(folder, 'old/child')), false);
  t.equal(await exists(folder), true);
});

t.test('atomic files: a full device leaves nothing behind', async (t) => {
  // A process-wide file size limit makes the kernel refuse writes half-way, as a full disk does.
  const folder = t.testdir({ kept: 'old' });
  const script = `import { writeFileAtomic } from '@equipoise/core';
    process.on('SIGXFSZ', () => {});
    await writeFileAtomic(${JSON.stringify(join(folder, 'kept'))}, new Uint8Array(1 << 20)).then(
      () => console.log('written'), (error) => console.log(error.code, error.message.includes('size limit')));`;
  const command = `ulimit -f 64; exec "${process.execPath}" --import=tsx --conditions=equipoise-source --input-type=module -e "$SCRIPT"`;
  const output = execFileSync('bash', ['-c', command], {
    env: { ...process.env, SCRIPT: script },
    encoding: 'utf8',
  });
  t.equal(output.trim(), 'io true');
  t.strictSame(await readdir(folder), ['kept']);
  t.equal(await readFile(join(folder, 'kept'), 'utf8'), 'old');
});

t.test('temporary files of dead processes are cleared away', async (t) => {
  const folder = t.testdir();
  const dead = Number(execFileSync(process.execPath, ['-p', 'process.pid'], { encoding: 'utf8' }));
  await writeFile(join(folder, `.a.json.${dead}.0123456789ab.tmp`), '');
  await writeFile(join(folder, `.a.json.${process.pid}.0123456789ab.tmp`), '');
  await writeFile(join(folder, '.other.tmp'), '');
  t.strictSame(await removeStaleTemporaries(folder), [`.a.json.${dead}.0123456789ab.tmp`]);
  t.equal((await readdir(folder)).length, 2);
});

t.test('the pace of a job', (t) => {
  t.strictSame([0, 59.4, 61, 3599, 3600, 90_061].map(formatDuration), [
    '0s',
    '59s',
    '1m01s',
    '59m59s',
    '1h00m',
    '1d01h',
  ]);
  const { rate, left, cpu } = new Pace(10, 'pair').advance(5);
  t.match(rate, /^[0-9.e+]+ pairs\/s$/);
  t.match(left, /^\d+s$/);
  t.match(cpu, /^\d+%$/);
  t.end();
});

t.test('progress and cancellation', async (t) => {
  const events: ProgressEvent[] = [];
  const controller = new AbortController();
  const counter = new ProgressCounter(
    'train',
    { onProgress: (event) => events.push(event), signal: controller.signal },
    { total: 3, unit: 'step' },
  );
  counter.advance(1, { loss: 0.5 });
  controller.abort();
  t.throws(() => counter.advance(), { code: 'cancelled', message: 'train: cancelled' });
  t.strictSame(events, [
    { task: 'train', done: 0, total: 3, unit: 'step' },
    { task: 'train', done: 1, total: 3, unit: 'step', values: { loss: 0.5 } },
    { task: 'train', done: 2, total: 3, unit: 'step' },
  ]);
  throwIfCancelled(undefined);
  t.throws(() => throwIfCancelled(controller.signal), { message: 'cancelled' });
  t.ok(isCancelled(new EquipoiseError('cancelled', '')));
  t.ok(isCancelled(new DOMException('', 'AbortError')));
  t.notOk(isCancelled(new Error('x')));
});
