import { fixturesOf } from '@equipoise/testing';
import t from 'tap';
import {
  bfloat16ToFloat32,
  castSource,
  float16ToFloat32,
  float32Source,
  float32ToBfloat16,
  float32ToFloat16,
  memorySource,
  openSafetensors,
  readFloat32,
} from './index.js';

const fixtures = fixturesOf(import.meta.url);

t.test('float conversions round as torch does', async (t) => {
  await using file = await openSafetensors(fixtures.path('containers/conversions.safetensors'));
  const bits = async (name: string): Promise<Uint16Array> =>
    new Uint16Array((await file.get(name).read()).buffer);
  const x = await readFloat32(file.get('x'));
  const isNaN16 = (value: number, exponent: number): boolean => (value & 0x7fff) > exponent;
  for (const [name, convert, exponent] of [
    ['f16', float32ToFloat16, 0x7c00],
    ['bf16', float32ToBfloat16, 0x7f80],
  ] as const) {
    const expected = await bits(name);
    const actual = convert(x);
    const wrong = [...actual].filter((value, i) => {
      const wanted = expected[i] as number;
      return isNaN16(wanted, exponent) ? !isNaN16(value, exponent) : value !== wanted;
    });
    t.strictSame(wrong, [], name);
    const widened = await readFloat32(file.get(name));
    t.strictSame(widened, await readFloat32(file.get(`${name}.f32`)), `${name} to float32`);
  }
  // Every float16 and bfloat16 survives the round trip, and float32's unit agrees on every float16.
  const all = Uint16Array.from({ length: 0x10000 }, (_, i) => i);
  const half = float16ToFloat32(all);
  t.strictSame(
    float32ToFloat16(half).filter((value, i) => value !== i && !Number.isNaN(half[i])),
    new Uint16Array(0),
  );
  const brain = bfloat16ToFloat32(all);
  t.strictSame(
    float32ToBfloat16(brain).filter((value, i) => value !== i && !Number.isNaN(brain[i])),
    new Uint16Array(0),
  );
  t.equal(half[0x3555], Math.fround(0.333251953125));
  t.equal(half[1], 2 ** -24);
});

t.test('casting while reading equals casting the whole', async (t) => {
  // More than one piece, and not a whole number of them.
  const n = (1 << 20) + 12_345;
  const values = Float32Array.from({ length: n }, (_, i) => Math.sin(i) * 10);
  const source = float32Source('x', [n], values);
  const half = castSource(source, 'F16');
  t.equal(half.byteLength, 2 * n);
  const same = (a: Uint8Array, b: Uint16Array): boolean => Buffer.from(a).equals(Buffer.from(b.buffer));
  t.ok(same(await half.read(), float32ToFloat16(values)));
  const part = new Uint8Array(20);
  await half.readInto(part, 2 * (n - 10));
  t.ok(same(part, float32ToFloat16(values.slice(-10))));
  const stored = memorySource('x', 'F16', [n], float32ToFloat16(values));
  const rounded = await readFloat32(stored);
  t.ok(Buffer.from(rounded.buffer).equals(Buffer.from(float16ToFloat32(float32ToFloat16(values)).buffer)));
  t.ok(same(await castSource(stored, 'BF16').read(), float32ToBfloat16(rounded)));
  t.equal(castSource(source, 'F32'), source);
  const ids = memorySource('ids', 'I64', [1], BigInt64Array.of(5n));
  t.equal(castSource(ids, 'F16'), ids);
  await t.rejects(readFloat32(ids), {
    code: 'unsupported',
    message: /"ids": expected a type that converts to float32, got I64 \[1\]/,
  });
  await t.rejects(readFloat32(source, new Float32Array(3)), { message: /room for/ });
  await t.rejects(half.readInto(new Uint8Array(3), 0), { message: /whole F16 elements/ });
});
