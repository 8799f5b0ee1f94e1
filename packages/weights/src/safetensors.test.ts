import { readdir, readFile, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ProgressEvent } from '@equipoise/core';
import { fixturesOf } from '@equipoise/testing';
import t from 'tap';
import {
  DTYPES,
  float32Source,
  memorySource,
  openSafetensors,
  parseSafetensors,
  readFloat32,
  renamed,
  SafetensorsFile,
  type TensorSource,
  writeSafetensors,
} from './index.js';

const fixtures = fixturesOf(import.meta.url);

/** A file with the given header text and number of data bytes. */
function fileOf(header: string | Uint8Array, dataBytes: number, declared?: bigint): Uint8Array {
  const json = typeof header === 'string' ? new TextEncoder().encode(header) : header;
  const file = new Uint8Array(8 + json.byteLength + dataBytes);
  new DataView(file.buffer).setBigUint64(0, declared ?? BigInt(json.byteLength), true);
  file.set(json, 8);
  return file;
}

function entry(dtype: string, shape: string, offsets: string): string {
  return `{"dtype":"${dtype}","shape":${shape},"data_offsets":${offsets}}`;
}

t.test('files of the reference writer: contents, and our writer gives the same bytes', async (t) => {
  const folder = t.testdir();
  const names = fixtures.names().filter((name) => name.endsWith('.safetensors'));
  t.ok(names.length >= 14);
  let rewritten = 0;
  for (const name of names) {
    await using file = await openSafetensors(fixtures.path(name));
    if (file.metadata.size > 1) continue; // The reference has no fixed order for several keys.
    const copy = join(folder, `${rewritten++}.safetensors`);
    const shuffled = [...file.tensors.values()].reverse();
    const metadata = file.metadata.size === 0 ? null : Object.fromEntries(file.metadata);
    t.equal(await writeSafetensors(copy, shuffled, { metadata }), file.byteLength);
    t.ok((await readFile(copy)).equals(fixtures.bytes(name)), `${name} is equal byte for byte`);
  }
  t.ok(rewritten >= 11);
});

t.test('every type, name and shape of the reference is read', async (t) => {
  await using file = await openSafetensors(fixtures.path('containers/types.safetensors'));
  const names = [...file.tensors.keys()];
  t.equal(names.length, 23);
  t.strictSame(names.slice(0, 4), ['u64', 'i64', 'f64', 'c64']);
  t.equal(names.at(-1), 'bool');
  t.strictSame(file.get('scalar').shape, []);
  t.strictSame(await readFloat32(file.get('scalar')), Float32Array.of(3.5));
  t.strictSame(file.get('empty').shape, [0, 4]);
  t.equal((await file.get('empty').read()).byteLength, 0);
  t.ok(file.tensors.has('quote " slash \\ tab \t nul \x00 del \x7f'));
  t.strictSame(await readFloat32(file.get('bool')), Float32Array.of(1, 0, 1));
  // By UTF-8 bytes; JavaScript's own order would put the last one first.
  t.strictSame(
    names.filter((name) => /[^ -~]/.test(name) && !name.startsWith('quote')),
    ['\u2028', '～é中', '😀'],
  );
  t.throws(() => file.get('scalr'), {
    code: 'missing',
    message: /no tensor "scalr"/,
    hints: ['Did you mean "scalar"?'],
  });
});

t.test('every broken file is refused with its own reason', async (t) => {
  const f32 = (shape: string, offsets: string): string => entry('F32', shape, offsets);
  const huge = '4294967296';
  const cases: [string, Uint8Array, RegExp][] = [
    ['empty file', new Uint8Array(0), /^f: header: expected at least 8 bytes, got a file of 0 bytes$/],
    ['seven bytes', new Uint8Array(7), /got a file of 7 bytes/],
    ['header length 0', fileOf('', 0), /^f: header length: expected at least 2 bytes, got 0/],
    ['header too long', fileOf('{}', 0, 100_000_001n), /expected at most 100000000 bytes, got 100000001/],
    [
      'absurd length',
      fileOf('{}', 0, 2n ** 64n - 1n),
      /expected at most 100000000 bytes, got 18446744073709551615/,
    ],
    ['header past the end', fileOf('{}', 0, 3n), /a header of 3 bytes in a file of 10/],
    ['not UTF-8', fileOf(Uint8Array.of(0x7b, 0xff, 0x7d), 0), /header: expected UTF-8 text/],
    ['byte order mark', fileOf('\ufeff{}', 0), /expected valid JSON: a JSON value at character 0/],
    ['NUL padding', fileOf('{}\0', 0), /valid JSON: the end of the text at character 2, got "\\u0000"/],
    ['cut JSON', fileOf('{"a":', 0), /valid JSON: a JSON value at character 5, got the end/],
    ['trailing comma', fileOf('{"a":{},}', 0), /valid JSON: a key in quotes/],
    ['not an object', fileOf('[]', 0), /header: expected a JSON object, got a list/],
    [
      'repeated name',
      fileOf(`{"a":${f32('[1]', '[0,4]')},"a":${f32('[1]', '[0,4]')}}`, 4),
      /each key once; "a" came before/,
    ],
    ['repeated field', fileOf('{"a":{"dtype":"F32","dtype":"F32"}}', 0), /each key once; "dtype"/],
    ['entry not an object', fileOf('{"a":3}', 0), /^f: tensor "a": expected an object, got the number 3/],
    ['no type', fileOf('{"a":{}}', 0), /tensor "a": dtype: expected one of BOOL.*, got nothing/],
    [
      'lower-case type',
      fileOf(`{"a":${entry('f32', '[1]', '[0,4]')}}`, 4),
      /dtype: expected a known type such as F32, got "f32"/,
    ],
    [
      'unknown type',
      fileOf(`{"a":${entry('Q8', '[1]', '[0,1]')}}`, 1),
      /dtype: expected a known type such as .*, got "Q8"/,
    ],
    [
      'no shape',
      fileOf('{"a":{"dtype":"F32","data_offsets":[0,4]}}', 4),
      /shape: expected a list, got nothing/,
    ],
    [
      'negative size',
      fileOf(`{"a":${f32('[-1]', '[0,4]')}}`, 4),
      /shape\[0\]: expected an integer from 0 .*, got -1/,
    ],
    ['fraction', fileOf(`{"a":${f32('[1.5]', '[0,4]')}}`, 4), /shape\[0\]: .*got 1\.5/],
    ['integral fraction', fileOf(`{"a":${f32('[1.0]', '[0,4]')}}`, 4), /shape\[0\]: .*got 1\.0/],
    ['exponent', fileOf(`{"a":${f32('[1e0]', '[0,4]')}}`, 4), /shape\[0\]: .*got 1e0/],
    ['minus zero', fileOf(`{"a":${f32('[-0]', '[0,0]')}}`, 0), /shape\[0\]: .*got -0/],
    ['text size', fileOf(`{"a":${f32('["1"]', '[0,4]')}}`, 4), /shape\[0\]: .*got "1"/],
    [
      'beyond 2^53',
      fileOf(`{"a":${f32('[9007199254740993]', '[0,4]')}}`, 4),
      /shape\[0\]: .*got 9007199254740993/,
    ],
    ['text offset', fileOf(`{"a":${f32('[1]', '["0",4]')}}`, 4), /data_offsets\[0\]: expected an integer/],
    ['negative offset', fileOf(`{"a":${f32('[1]', '[-4,0]')}}`, 4), /data_offsets\[0\]: .*got -4/],
    ['one offset', fileOf(`{"a":${f32('[1]', '[4]')}}`, 4), /data_offsets: expected two numbers, got \[4\]/],
    [
      'metadata number',
      fileOf('{"__metadata__":{"a":1}}', 0),
      /__metadata__: "a": expected text, got the number 1/,
    ],
    [
      'metadata null value',
      fileOf('{"__metadata__":{"a":null}}', 0),
      /__metadata__: "a": expected text, got null/,
    ],
    [
      'metadata list',
      fileOf('{"__metadata__":[]}', 0),
      /__metadata__: expected an object or null, got a list/,
    ],
    [
      'begin > end',
      fileOf(`{"a":${f32('[1]', '[4,0]')}}`, 4),
      /data_offsets: expected begin <= end, got \[4, 0\]/,
    ],
    [
      'lying size',
      fileOf(`{"a":${f32('[2]', '[0,4]')}}`, 4),
      /data_offsets: expected 8 bytes for F32 \[2\], got 4/,
    ],
    [
      'overflow',
      fileOf(`{"a":${f32(`[${huge},${huge}]`, '[0,4]')}}`, 4),
      /shape: expected fewer than 2\^64 elements/,
    ],
    [
      'overflow, then 0',
      fileOf(`{"a":${f32(`[${huge},${huge},0]`, '[0,0]')}}`, 0),
      /fewer than 2\^64 elements/,
    ],
    ['overflow of bits', fileOf(`{"a":${f32(`[${huge},2147483648]`, '[0,4]')}}`, 4), /fewer than 2\^64 bits/],
    [
      'half a byte',
      fileOf(`{"a":${entry('F4', '[3]', '[0,1]')}}`, 1),
      /whole number of bytes, got 12 bits \(F4 \[3\]\)/,
    ],
    ['six bits', fileOf(`{"a":${entry('F6_E2M3', '[1]', '[0,1]')}}`, 1), /whole number of bytes, got 6 bits/],
    [
      'late start',
      fileOf(`{"a":${f32('[1]', '[4,8]')}}`, 8),
      /expected data that starts at byte 0, got a start at 4/,
    ],
    [
      'hole',
      fileOf(`{"a":${f32('[1]', '[0,4]')},"b":${f32('[1]', '[8,12]')}}`, 12),
      /"b": data_offsets: expected no hole after byte 4, got a start at 8/,
    ],
    [
      'overlap',
      fileOf(`{"a":${f32('[2]', '[0,8]')},"b":${f32('[1]', '[4,8]')}}`, 8),
      /"b": data_offsets: expected no overlap with "a", which ends at 8, got a start at 4/,
    ],
    [
      'same place',
      fileOf(`{"a":${f32('[1]', '[0,4]')},"b":${f32('[1]', '[0,4]')}}`, 4),
      /"b": data_offsets: expected no overlap with "a"/,
    ],
    [
      'data too short',
      fileOf(`{"a":${f32('[2]', '[0,8]')}}`, 7),
      /^f: data: expected 8 bytes, got 7; the file is cut short/,
    ],
    [
      'data too long',
      fileOf(`{"a":${f32('[2]', '[0,8]')}}`, 9),
      /^f: data: expected 8 bytes, got 9; no tensor covers the rest/,
    ],
    ['data of nothing', fileOf('{}', 1), /^f: data: expected 0 bytes, got 1/],
    [
      'too many dimensions',
      fileOf(`{"a":${f32(`[${Array(65).fill(1)}]`, '[0,4]')}}`, 4),
      /at most 64 dimensions, got 65/,
    ],
    ['deep nesting', fileOf(`{"a":${'['.repeat(1e6)}`, 0), /nesting of at most 128 levels/],
    ['five million values', fileOf(`{"a":[${'0,'.repeat(5e6)}0]}`, 0), /at most 4000000 values/],
    ['lone surrogate', fileOf('{"\\ud800":{}}', 0), /surrogate escapes in pairs/],
    ['raw newline in a name', fileOf('{"a\nb":{}}', 0), /the closing quote of a string at character 3/],
  ];
  const folder = t.testdir();
  for (const [what, bytes, message] of cases) {
    t.throws(() => parseSafetensors(bytes, 'f'), { code: 'corrupt', message }, what);
    await writeFile(join(folder, 'f'), bytes);
    await t.rejects(openSafetensors(join(folder, 'f')), { code: 'corrupt' }, `${what}, from a file`);
  }
});

t.test('what the reference accepts is accepted', async (t) => {
  const accepted: [string, Uint8Array, number][] = [
    ['no tensors', fileOf('{}', 0), 0],
    ['blanks around', fileOf('\n {"__metadata__":null}\t ', 0), 0],
    ['scalar', fileOf(`{"a":${entry('F64', '[]', '[0,8]')}}`, 8), 1],
    [
      'zero sizes share a place',
      fileOf(`{"a":${entry('F32', '[0]', '[0,0]')},"b":${entry('U8', '[0,7]', '[0,0]')}}`, 0),
      2,
    ],
    ['zero before a huge size', fileOf(`{"a":${entry('F32', '[0,4294967296,4294967296]', '[0,0]')}}`, 0), 1],
    [
      'sub-byte',
      fileOf(`{"a":${entry('F4', '[2]', '[0,1]')},"b":${entry('F6_E3M2', '[4]', '[1,4]')}}`, 4),
      2,
    ],
    [
      'unknown fields',
      fileOf('{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":[{"y":1.5e3}]}}', 1),
      1,
    ],
    ['any order', fileOf(`{"a":${entry('U8', '[1]', '[1,2]')},"b":${entry('U8', '[1]', '[0,1]')}}`, 2), 2],
    [
      'unusual names',
      fileOf(`{"__proto__":${entry('U8', '[1]', '[0,1]')},"":${entry('U8', '[0]', '[1,1]')}}`, 1),
      2,
    ],
    ['64 dimensions', fileOf(`{"a":${entry('U8', `[${Array(64).fill(1)}]`, '[0,1]')}}`, 1), 1],
  ];
  for (const [what, bytes, count] of accepted) t.equal(parseSafetensors(bytes).tensors.length, count, what);
  t.equal(DTYPES.length, 22);
});

t.test('reading: ranges, closed and shrinking files', async (t) => {
  const path = join(t.testdir(), 'a.safetensors');
  const values = Float32Array.from({ length: 1000 }, (_, i) => i);
  await writeSafetensors(path, [float32Source('x', [10, 100], values)]);
  const file = await SafetensorsFile.open(path);
  const source = file.get('x');
  const part = new Float32Array(3);
  await source.readInto(new Uint8Array(part.buffer), 40);
  t.strictSame([...part], [10, 11, 12]);
  for (const offset of [-1, 0.5, 3993, Number.NaN]) {
    await t.rejects(source.readInto(new Uint8Array(8), offset), {
      message: /^x: range: expected bytes within/,
    });
  }
  await truncate(path, file.byteLength - 1);
  await t.rejects(source.read(), {
    code: 'corrupt',
    message: /tensor "x": expected 4000 bytes, got 3999; the file was cut/,
  });
  await file.close();
  await file.close();
  await t.rejects(source.read(), { message: /read after close/ });
});

t.test('foreign formats are named', async (t) => {
  const folder = t.testdir({
    'pytorch_model.bin': 'x',
    'zip.safetensors': 'PK\x03\x04 and more',
    'lfs.safetensors': 'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n',
    'page.safetensors': '<!DOCTYPE html><html></html>',
    'gguf.safetensors': 'GGUF12345678',
    sub: {},
  });
  await writeFile(join(folder, 'pickle.safetensors'), Uint8Array.of(0x80, 2, 0x7d, 0x71, 0, 0x58, 1, 0, 0));
  const pickle = {
    code: 'unsafe',
    message: /got a pickle .*can run any code/,
    hints: [/beside it/, /safe_serialization/],
  };
  for (const name of ['pytorch_model.bin', 'model.ckpt', 'a.PT', 'zip.safetensors', 'pickle.safetensors']) {
    await t.rejects(openSafetensors(join(folder, name)), pickle, name);
  }
  await t.rejects(openSafetensors(join(folder, 'lfs.safetensors')), {
    code: 'corrupt',
    message: /Git LFS pointer/,
  });
  await t.rejects(openSafetensors(join(folder, 'page.safetensors')), {
    code: 'corrupt',
    message: /web page/,
  });
  await t.rejects(openSafetensors(join(folder, 'gguf.safetensors')), { code: 'unsupported' });
  await t.rejects(openSafetensors(join(folder, 'none.safetensors')), {
    code: 'missing',
    message: /no such file/,
  });
  await t.rejects(openSafetensors(join(folder, 'sub')), { message: /expected a file, got a folder/ });
});

t.test('writing: refusals, failures and cancellation leave the old file', async (t) => {
  const folder = t.testdir();
  const path = join(folder, 'a.safetensors');
  const x = float32Source('x', [2], Float32Array.of(1, 2));
  await writeSafetensors(path, [x]);
  const before = await readFile(path);
  const failing: TensorSource = { ...renamed(x, 'y'), readInto: () => Promise.reject(new Error('lost')) };
  await t.rejects(writeSafetensors(path, [x, failing]), { message: 'lost' });
  await t.rejects(writeSafetensors(path, [x, x]), { message: /tensor "x": expected a name used once/ });
  await t.rejects(writeSafetensors(path, [renamed(x, '__metadata__')]), { message: /reserved/ });
  await t.rejects(writeSafetensors(path, [renamed(x, '\ud800')]), { message: /lone surrogates/ });
  await t.rejects(writeSafetensors(path, [{ ...x, byteLength: 4 }]), {
    message: /expected 8 bytes for F32 \[2\], got 4/,
  });
  const controller = new AbortController();
  const events: ProgressEvent[] = [];
  const onProgress = (event: ProgressEvent): void => {
    events.push(event);
    if (event.done > 0) controller.abort();
  };
  const cancelled = writeSafetensors(path, [x, renamed(x, 'y')], { onProgress, signal: controller.signal });
  await t.rejects(cancelled, { code: 'cancelled' });
  t.match(events, [{ done: 0, total: 16, unit: 'byte' }, { done: 8 }]);
  t.ok(before.equals(await readFile(path)));
  t.strictSame(await readdir(folder), ['a.safetensors']);
  t.throws(() => memorySource('m', 'F16', [3], new Uint8Array(5)), {
    message: /m: values: expected 6 bytes for F16 \[3\], got 5/,
  });
  t.throws(() => memorySource('m', 'F16', [-1], new Uint8Array(5)), { message: /non-negative/ });
  t.throws(() => renamed(x, 'y', [3]), { message: /y: shape: expected 8 bytes in all/ });
  t.strictSame([...(await renamed(x, 'y', [2, 1]).read())], [...(await x.read())]);
});
