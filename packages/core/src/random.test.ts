import t from 'tap';
import {
  Mt19937,
  PhiloxSequence,
  PhiloxStream,
  philox4x32,
  splitU64,
  streamId,
  TorchGenerator,
} from './index.js';

type Test = Pick<typeof t, 'ok'>;

function near(t: Test, actual: ArrayLike<number>, expected: readonly number[], tolerance: number): void {
  expected.forEach((value, i) => {
    t.ok(Math.abs((actual[i] as number) - value) <= tolerance, `element ${i}: ${actual[i]} near ${value}`);
  });
}

t.test('philox4x32-10 gives the known answers of the Random123 distribution', async (t) => {
  const answers: [number[], number[], number[]][] = [
    [
      [0, 0, 0, 0],
      [0, 0],
      [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8],
    ],
    [
      [0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff],
      [0xffffffff, 0xffffffff],
      [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd],
    ],
    [
      [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
      [0xa4093822, 0x299f31d0],
      [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
    ],
  ];
  for (const [counter, key, expected] of answers) t.strictSame([...philox4x32(counter, key)], expected);
});

t.test('a sample depends on seed, stream and index alone', async (t) => {
  const stream = new PhiloxStream(42, 7n);
  const whole = stream.fillNormal(new Float32Array(1001));
  for (const offset of [0, 1, 3, 4, 997]) {
    const part = new PhiloxStream(42n, 7).fillNormal(new Float32Array(4), offset);
    t.strictSame([...part], [...whole.subarray(offset, offset + 4)], `offset ${offset}`);
  }
  t.equal(stream.u32(2 ** 40 + 1), philox4x32([2 ** 38 % 2 ** 32, 2 ** 6, 7, 0], [42, 0])[1]);
  t.not(new PhiloxStream(42, 8).u32(0), stream.u32(0));
  t.not(new PhiloxStream(2n ** 32n + 42n, 7).u32(0), stream.u32(0));
  t.equal(new PhiloxStream(1, 2n ** 63n).u32(5), philox4x32([1, 0, 0, 2 ** 31], [1, 0])[1]);
});

t.test('uniform and normal follow the documented mapping', async (t) => {
  const stream = new PhiloxStream(3, 1);
  const words = Uint32Array.from({ length: 8 }, (_, i) => stream.u32(i));
  const uniforms = stream.fillUniform(new Float32Array(8));
  const normals = stream.fillNormal(new Float32Array(8));
  for (let i = 0; i < 8; i++) {
    t.equal(uniforms[i], Math.floor((words[i] as number) / 256) / 2 ** 24);
    const pair = i - (i % 2);
    const a = (Math.floor((words[pair] as number) / 256) + 1) / 2 ** 24;
    const b = Math.floor((words[pair + 1] as number) / 256) / 2 ** 24;
    const wave = i % 2 === 0 ? Math.cos(2 * Math.PI * b) : Math.sin(2 * Math.PI * b);
    t.equal(normals[i], Math.fround(Math.sqrt(-2 * Math.log(a)) * wave));
  }
});

t.test('moments of 200,000 normals', async (t) => {
  const n = 200_000;
  const x = new PhiloxStream(1234, 5).fillNormal(new Float32Array(n));
  const moment = (power: number): number => x.reduce((sum, value) => sum + value ** power, 0) / n;
  // Six standard errors of each sample moment.
  t.ok(Math.abs(moment(1)) < 6 / Math.sqrt(n));
  t.ok(Math.abs(moment(2) - 1) < 6 * Math.sqrt(2 / n));
  t.ok(Math.abs(moment(3)) < 6 * Math.sqrt(15 / n));
  t.ok(Math.abs(moment(4) - 3) < 6 * Math.sqrt(96 / n));
  let neighbours = 0;
  for (let i = 1; i < n; i++) neighbours += (x[i] as number) * (x[i - 1] as number);
  t.ok(Math.abs(neighbours / n) < 6 / Math.sqrt(n));
});

t.test('sequences: integers, shuffles and resuming', async (t) => {
  const draws = new PhiloxSequence(9);
  const counts = new Array<number>(7).fill(0);
  for (let i = 0; i < 70_000; i++) {
    const value = draws.int(7);
    counts[value] = (counts[value] as number) + 1;
  }
  // Six standard deviations of a binomial count.
  for (const count of counts)
    t.ok(Math.abs(count - 10_000) < 6 * Math.sqrt((70_000 * 6) / 49), `${count} of 70,000`);
  const sequence = new PhiloxSequence(9, 2);
  sequence.u32();
  const resumed = new PhiloxSequence(9, 2, sequence.position);
  t.equal(resumed.uniform(), sequence.uniform());
  t.equal(resumed.normal(), sequence.normal());
  const shuffled = new PhiloxSequence(1).shuffle(Array.from({ length: 100 }, (_, i) => i));
  t.strictSame(
    [...shuffled].sort((a, b) => a - b),
    Array.from({ length: 100 }, (_, i) => i),
  );
  t.notSame(
    shuffled,
    Array.from({ length: 100 }, (_, i) => i),
  );
  t.equal(new PhiloxSequence(1).int(1), 0);
  t.ok(new PhiloxSequence(1).int(2 ** 32) < 2 ** 32);
  t.throws(() => draws.int(0), { message: 'n: expected an integer from 1 to 2^32, got 0' });
  t.throws(() => draws.pick([]), { message: /non-empty list/ });
});

t.test('bad seeds and indices are refused', async (t) => {
  for (const seed of [-1, 0.5, 2 ** 53, Number.NaN, -1n, 2n ** 64n]) {
    t.throws(() => new PhiloxStream(seed), { message: /^seed: expected an integer from 0 to 2\^64 - 1/ });
    t.throws(() => new Mt19937(seed), { code: 'invalid' });
  }
  t.throws(() => new PhiloxStream(0).u32(-1), { message: /^index: expected/ });
  t.throws(() => new PhiloxStream(0).u32(2 ** 53), { message: /^index: expected/ });
  t.strictSame(splitU64('x', 2n ** 64n - 1n), [0xffffffff, 0xffffffff]);
  t.equal(streamId('latents', 3, 1), streamId('latents', '3', 1n));
  t.not(streamId('latents', 31), streamId('latents', 3, 1));
});

t.test('MT19937 gives the reference sequence', async (t) => {
  const engine = new Mt19937(5489);
  t.equal(engine.u32(), 3499211612);
  for (let i = 1; i < 9999; i++) engine.u32();
  // The 10,000th word of the default seed, as the C++ standard states it.
  t.equal(engine.u32(), 4123659995);
});

t.test("torch's CPU generator: recorded values", async (t) => {
  near(t, new TorchGenerator(42).randn(4), [0.33669, 0.12881, 0.23446, 0.23033], 6e-6);
  near(t, new TorchGenerator(42).randn(64), [1.9269153, 1.4872841, 0.9007172, -2.1055212], 2.4e-7);
  near(t, new TorchGenerator(0).randn(16), [-1.12584, -1.15236, -0.25058, -0.43388], 6e-6);
  near(t, new TorchGenerator(42).rand(4), [0.88226926, 0.91500396, 0.38286376, 0.95930564], 6e-9);
  t.strictSame(new TorchGenerator(42).randint(0, 1000, 8), [542, 67, 876, 414, 26, 335, 620, 924]);
  t.strictSame([...new TorchGenerator(42).randperm(10)], [2, 6, 1, 8, 4, 5, 0, 9, 3, 7]);
});

t.test("torch's CPU generator: one generator, mixed calls (torch 2.13)", async (t) => {
  const small = new TorchGenerator(7);
  // The sine half cached by the odd-sized first draw is the second draw's first value, and so on.
  near(t, small.randn(3), [-0.1467950940132141, 0.7861412763595581, 0.9468216300010681], 2.4e-7);
  near(t, small.randn(2), [-1.1143440008163452, 1.6907901763916016], 2.4e-7);
  const odd = small.randn(19);
  near(t, odd, [0.609473466873169, -0.5811337828636169, 0.049043867737054825, 0.5035638809204102], 2.4e-7);
  near(
    t,
    odd.subarray(15),
    [-1.056684136390686, -0.2615867257118225, -0.25013262033462524, 0.501121461391449],
    2.4e-7,
  );
  near(t, small.randn(1), [-0.8948279023170471], 2.4e-7);

  const big = new TorchGenerator(2 ** 40 + 5);
  near(t, big.rand(2), [0.8302518725395203, 0.12611091136932373], 0);
  t.strictSame(big.randint(-5, 2 ** 40, 3), [1029994667309, 989387375290, 622604916187]);
  t.strictSame([...big.randperm(5)], [3, 1, 0, 2, 4]);

  const latents = new TorchGenerator(1);
  const sum = latents.randn(4 * 64 * 64).reduce((total, value) => total + value, 0);
  t.ok(Math.abs(sum - -121.25276417347686) < 1e-3, `sum of a latent: ${sum}`);
  t.strictSame(latents.randint(0, 2 ** 28, 2), [205751371, 227450590]);
  t.strictSame([...latents.randperm(70_000).subarray(0, 5)], [48833, 35052, 25158, 50211, 21480]);
  t.strictSame(new TorchGenerator(1).randn(0), new Float32Array(0));
  t.throws(() => new TorchGenerator(1).randn(-1), { message: /^n: expected/ });
  t.throws(() => new TorchGenerator(1).randint(3, 3, 1), {
    message: /^high: expected a safe integer above 3, got 3/,
  });
});
