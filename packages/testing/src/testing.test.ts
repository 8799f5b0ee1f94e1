import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-backend-cpu';
import t from 'tap';
import {
  ATTENTIONS,
  CONVS,
  difference,
  Fixtures,
  fixturesOf,
  GEMMS,
  LENGTHS,
  ROWS,
  requireClose,
  requireGradients,
  requireNoLeak,
  SHAPES,
  sizeOf,
  ulpDistance,
} from './index.js';

t.test('differences are measured', async (t) => {
  const measured = difference([1, 2, 5], [1, 2.5, 4]);
  t.match(measured, { count: 3, worstIndex: 2, actual: 5, expected: 4, maxAbsolute: 1, maxRelative: 0.25 });
  t.ok(Math.abs(measured.relativeNorm - Math.sqrt(1.25 / (1 + 6.25 + 16))) < 1e-15);
  t.match(difference([], []), { count: 0, worstIndex: -1, maxAbsolute: 0, relativeNorm: 0 });
  t.equal(difference([3, 4], [0, 0]).relativeNorm, 5);
});

t.test('NaN, infinities, lengths and missing tolerances never pass', async (t) => {
  for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
    const absolute = 1e30;
    t.throws(() => requireClose('x', [0, bad], [0, 1], { absolute }), {
      message: /actual\[1\]: expected a finite/,
    });
    t.throws(() => requireClose('x', [0, 1], [0, bad], { absolute }), {
      message: /expected\[1\]: expected a finite/,
    });
    t.throws(() => requireClose('x', [bad], [bad], { relativeNorm: 1e30 }), { code: 'numeric' });
  }
  t.throws(() => requireClose('x', [1], [1, 2], { absolute: 1 }), { message: /expected 2 elements, got 1/ });
  t.throws(() => requireClose('x', [1], [1], {}), { message: /^tolerance: expected absolute, relative/ });
});

t.test('tolerances hold at their edge and name the worst element', async (t) => {
  requireClose('x', [1.5], [1], { absolute: 0.5 });
  requireClose('x', [110], [100], { relative: 0.1 });
  requireClose('x', [1.5, 100], [1, 100], { relativeNorm: 0.00500025 });
  t.throws(() => requireClose('x', [1.5, 100], [1, 100], { relativeNorm: 0.0049 }), /relative norm 0\.0049/);
  t.throws(
    () => requireClose('y', [1, 2, 3, 4, 5, 9], [1, 2, 3, 4, 5, 6], { absolute: 0.1, shape: [2, 3] }),
    {
      message: /^y\[1, 2\]: expected 6 within absolute 0\.1, got \{"value":9,"maxAbsolute":3/,
    },
  );
  // The element outside its tolerance is named, not the one with the largest absolute difference.
  t.throws(() => requireClose('y', [1000.5, 0.1], [1000, 0], { relative: 0.01 }), { message: /^y\[1\]/ });
  t.equal(ulpDistance(1, 1 + 2 ** -23), 1);
  t.equal(ulpDistance(-0, 0), 0);
  t.equal(ulpDistance(2 ** -149, -(2 ** -149)), 2);
});

t.test('shape sets cover the awkward cases', async (t) => {
  t.ok([0, 1].every((length) => LENGTHS.includes(length)));
  t.ok(LENGTHS.some((length) => length % 2 === 1 && length > 64));
  t.ok(SHAPES.some((shape) => shape.length === 0) && SHAPES.some((shape) => sizeOf(shape) === 0));
  t.strictSame([...new Set(SHAPES.map((shape) => shape.length))].sort(), [0, 1, 2, 3, 4, 5, 6]);
  t.ok(GEMMS.some(([m]) => m === 0) && GEMMS.some(([, n]) => n === 0) && GEMMS.some(([, , k]) => k === 0));
  t.ok(ROWS.some(([rows]) => rows === 0) && ROWS.some(([, columns]) => columns % 8 !== 0));
  for (const { input, filter } of CONVS) t.equal(filter[2], input[3]);
  t.ok(
    ATTENTIONS.some((problem) => problem.causal) &&
      ATTENTIONS.some((problem) => problem.queries !== problem.keys),
  );
  t.equal(sizeOf([]), 1);
});

t.test('leaks are found', async (t) => {
  await tf.setBackend('cpu');
  await requireNoLeak('tidy', () => tf.tidy(() => tf.add(tf.scalar(1), tf.scalar(2)).dataSync()));
  const kept: tf.Tensor[] = [];
  const leaking = requireNoLeak('leaky', () => kept.push(tf.zeros([4])), { repeats: 2 });
  await t.rejects(leaking, {
    message: /^leaky: leaks over 2 runs: numTensors \d+ -> \d+, numDataBuffers .*numBytes/,
  });
  tf.dispose(kept);
});

t.test('gradients are checked', async (t) => {
  await tf.setBackend('cpu');
  const x = { values: Float32Array.from([0.3, -0.7, 1.1, 0.2, 0.5, -0.4]), shape: [2, 3] };
  const square = tf.customGrad((a) => {
    const input = a as tf.Tensor;
    return { value: tf.mul(input, input), gradFunc: (dy) => tf.mul(dy as tf.Tensor, tf.mul(input, 2)) };
  });
  await requireNoLeak('gradient check', () => requireGradients('square', square, [x]));
  const wrong = tf.customGrad((a) => {
    const input = a as tf.Tensor;
    return { value: tf.mul(input, input), gradFunc: (dy) => tf.mul(dy as tf.Tensor, tf.mul(input, 1.9)) };
  });
  await t.rejects(requireGradients('wrong', wrong, [x]), {
    code: 'numeric',
    message: /^wrong: input 0, direction \d/,
  });
});

t.test('fixtures are loaded, and a missing one says what there is', async (t) => {
  const folder = t.testdir({
    'a.json': '{"x": 1}',
    sub: { 'b.bin': Buffer.from(new Float32Array([1, 2]).buffer) },
  });
  const fixtures = new Fixtures(folder);
  t.strictSame(fixtures.json('a.json'), { x: 1 });
  t.strictSame(fixtures.float32('sub/b.bin'), new Float32Array([1, 2]));
  t.throws(() => fixtures.bytes('a.jsn'), {
    message: /fixture a\.jsn: no such file/,
    code: 'missing',
    hints: ['Did you mean a.json?'],
  });
  t.throws(() => new Fixtures('/nowhere').text('x'), { message: /fixture x: no such file/ });
  t.match(fixturesOf('file:///p/src/x.test.ts').folder, '/p/fixtures');
});
