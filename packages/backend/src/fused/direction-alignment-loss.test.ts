/** ITI-GEN's loss: values, gradients, the fallback, and a PyTorch autograd fixture. */

import { PhiloxStream } from '@equipoise/core';
import {
  type Array64,
  directionLoss64,
  enginesUnderTest,
  fixturesOf,
  numericGradient,
  requireClose,
  requireNoLeak,
} from '@equipoise/testing';
import * as tf from '@tensorflow/tfjs-core';
import t from 'tap';
import { useEngine } from '../index.js';
import { directionAlignmentLoss } from './index.js';

interface Case {
  name: string;
  categories: number[];
  attribute: number;
  depth: number;
  consistency: number;
  imageCounts?: number[];
  /** Makes these rows of the text equal. */
  equal?: [number, number];
}

const CASES: Case[] = [
  { name: 'one binary attribute', categories: [2], attribute: 0, depth: 5, consistency: 0.8 },
  { name: 'two features', categories: [3], attribute: 0, depth: 2, consistency: -2 },
  { name: 'last of two attributes', categories: [2, 3], attribute: 1, depth: 17, consistency: 0.8 },
  { name: 'middle of three attributes', categories: [2, 3, 2], attribute: 1, depth: 33, consistency: 0.05 },
  { name: 'hinge closed', categories: [2, 2], attribute: 0, depth: 8, consistency: -1 },
  { name: 'an attribute of one category', categories: [1, 2, 1], attribute: 1, depth: 8, consistency: 0.5 },
  {
    name: 'fallback: equal texts',
    categories: [2, 3],
    attribute: 1,
    depth: 9,
    consistency: 0.8,
    equal: [0, 1],
  },
  {
    name: 'fallback: an absent category',
    categories: [3, 2],
    attribute: 0,
    depth: 9,
    consistency: 0.2,
    imageCounts: [4, 0, 2],
  },
];

function makeInputs({
  categories,
  attribute,
  depth,
  equal,
}: Case): Record<'text' | 'original' | 'imageMeans', Array64> {
  const n = categories.reduce((a, b) => a * b, 1);
  const draw = (stream: number, shape: number[]): Array64 => {
    const values = new PhiloxStream(5, stream).fillNormal(new Float32Array(tf.util.sizeFromShape(shape)));
    return { shape, data: Float64Array.from(values) };
  };
  const text = draw(0, [n, depth]);
  if (equal) text.data.copyWithin(equal[1] * depth, equal[0] * depth, (equal[0] + 1) * depth);
  const means = draw(2, [categories[attribute] as number, depth]);
  const imageMeans = { ...means, data: means.data.map((value) => Math.fround(0.3 * value)) };
  return { text, original: draw(1, [depth]), imageMeans };
}

const upload = ({ data, shape }: Array64): tf.Tensor => tf.tensor(Float32Array.from(data), [...shape]);

async function check(testCase: Case): Promise<void> {
  const { categories, attribute, consistency, imageCounts, name, equal } = testCase;
  const rest = { categories, attribute, consistency, ...(imageCounts && { imageCounts }) };
  const inputs = makeInputs(testCase);
  const expected = directionLoss64({ ...inputs, ...rest });
  if (expected.fallback !== (equal !== undefined || imageCounts !== undefined))
    throw new Error(`${name}: wrong case`);
  const [text, original, imageMeans] = [inputs.text, inputs.original, inputs.imageMeans].map(upload) as [
    tf.Tensor,
    tf.Tensor,
    tf.Tensor,
  ];
  const { loss, parts, pairCosine } = directionAlignmentLoss({ text, original, imageMeans, ...rest });
  const tolerance = { absolute: 1e-6, relativeNorm: 1e-5 };
  requireClose(`${name}: loss`, await loss.data(), [expected.loss], tolerance);
  const { alignment, fallback } = expected;
  requireClose(
    `${name}: parts`,
    await parts.data(),
    [alignment, expected.consistency, Number(fallback)],
    tolerance,
  );
  if (equal === undefined && imageCounts === undefined) {
    requireClose(`${name}: cosines`, await pairCosine.data(), expected.pairCosine, tolerance);
  }
  const numeric = fallback
    ? fallbackGradient(testCase, inputs)
    : numericGradient((moved) => directionLoss64({ ...inputs, text: moved, ...rest }).loss, [inputs.text], 0);
  const gradient = tf.grad((x) => directionAlignmentLoss({ text: x, original, imageMeans, ...rest }).loss)(
    text,
  );
  requireClose(`${name}: gradient`, await gradient.data(), numeric, { relativeNorm: 1e-5, absolute: 1e-6 });
  tf.dispose([text, original, imageMeans, loss, parts, pairCosine, gradient]);
}

/** Moving one of two equal texts would leave the fallback, so its differences keep a category absent instead. */
function fallbackGradient(testCase: Case, inputs: ReturnType<typeof makeInputs>): Float64Array {
  const { categories, attribute, consistency, imageCounts } = testCase;
  const k = categories[attribute] as number;
  if (imageCounts !== undefined) {
    return numericGradient(
      (moved) =>
        directionLoss64({ ...inputs, text: moved, categories, attribute, consistency, imageCounts }).loss,
      [inputs.text],
      0,
    );
  }
  // The consistency part does not depend on the images: an absent extra run separates the two parts.
  const contexts = (inputs.text.shape[0] as number) / k;
  return numericGradient(
    (moved) => {
      const { consistency: con } = directionLoss64({
        ...inputs,
        text: moved,
        categories,
        attribute,
        consistency,
      });
      return con + cosineLoss(moved, inputs.imageMeans, testCase) / contexts;
    },
    [inputs.text],
    0,
  );
}

function cosineLoss(text: Array64, means: Array64, { categories, attribute, depth }: Case): number {
  const after = categories.slice(attribute + 1).reduce((a, b) => a * b, 1);
  const k = categories[attribute] as number;
  let sum = 0;
  for (let n = 0; n < (text.shape[0] as number); n++) {
    const row = text.data.subarray(n * depth, (n + 1) * depth);
    const mean = means.data.subarray((Math.floor(n / after) % k) * depth);
    const length = Math.hypot(...row);
    sum += 1 - row.reduce((dot, value, d) => dot + (value / length) * (mean[d] as number), 0);
  }
  return sum;
}

for (const engine of enginesUnderTest()) {
  t.test(engine, async (t) => {
    await useEngine(engine);
    for (const testCase of CASES) await t.resolves(check(testCase), testCase.name);
    await t.resolves(requireNoLeak('direction loss', () => check(CASES[3] as Case)));

    await t.test('PyTorch autograd over three attributes', async (t) => {
      const fixtures = fixturesOf(import.meta.url, '../../fixtures/fused');
      const cases = fixtures.json<TorchCase[]>('direction.json');
      t.ok(cases.length >= 4);
      for (const torch of cases)
        await t.resolves(checkTorch(torch), `attribute ${torch.attribute} ${torch.note}`);
    });

    await t.test('log values are not differentiable', (t) => {
      const inputs = makeInputs(CASES[0] as Case);
      const text = upload(inputs.text);
      const call = (x: tf.Tensor) =>
        directionAlignmentLoss({
          text: x,
          original: upload(inputs.original),
          imageMeans: upload(inputs.imageMeans),
          categories: [2],
          attribute: 0,
          consistency: 0.8,
        });
      t.throws(() => tf.grad((x) => tf.sum(call(x).parts))(text), /Cannot compute gradient/);
      t.end();
    });
  });
}

interface TorchCase {
  note: string;
  categories: number[];
  attribute: number;
  consistency: number;
  depth: number;
  imageCounts: number[];
  text: number[];
  original: number[];
  imageMeans: number[];
  loss: number;
  parts: number[];
  gradient: number[];
}

async function checkTorch(torch: TorchCase): Promise<void> {
  const { categories, attribute, consistency, imageCounts, depth } = torch;
  const text = tf.tensor(torch.text, [torch.text.length / depth, depth]);
  const original = tf.tensor1d(torch.original);
  const imageMeans = tf.tensor(torch.imageMeans, [torch.imageMeans.length / depth, depth]);
  const constants = { original, imageMeans, categories, attribute, consistency, imageCounts };
  const { loss, parts } = directionAlignmentLoss({ text, ...constants });
  requireClose('loss', await loss.data(), [torch.loss], { relativeNorm: 1e-5 });
  requireClose('parts', (await parts.data()).slice(0, 2), torch.parts, { relativeNorm: 1e-5 });
  const gradient = tf.grad((x) => directionAlignmentLoss({ text: x, ...constants }).loss)(text);
  requireClose('gradient', await gradient.data(), torch.gradient, { relativeNorm: 1e-5 });
  tf.dispose([text, original, imageMeans, loss, parts, gradient]);
}

t.test('bad input', async (t) => {
  await useEngine('cpu');
  const good = {
    text: tf.ones([6, 4]),
    original: tf.ones([4]),
    imageMeans: tf.ones([3, 4]),
    categories: [2, 3],
    attribute: 1,
    consistency: 0.8,
  };
  const bad = (change: object) => () => directionAlignmentLoss({ ...good, ...change });
  t.throws(bad({ text: tf.ones([5, 4]) }), {
    name: 'RangeError',
    message: /text: expected shape \[6,any\], got .*\[5,4\]/,
  });
  t.throws(bad({ original: tf.ones([3]) }), { name: 'RangeError', message: /original/ });
  t.throws(bad({ imageMeans: tf.ones([2, 4]) }), { name: 'RangeError', message: /imageMeans/ });
  t.throws(bad({ attribute: 2 }), { name: 'RangeError', message: /attribute: expected an index below 2/ });
  t.throws(bad({ categories: [6, 1] }), {
    name: 'RangeError',
    message: /categories\[1\]: expected an integer >= 2, got 1/,
  });
  t.throws(bad({ imageCounts: [1, 2] }), { name: 'RangeError', message: /imageCounts/ });
  t.throws(bad({ consistency: NaN }), { name: 'RangeError', message: /consistency/ });
  t.throws(bad({ text: [[1]] }), { name: 'TypeError', message: /text: expected a tensor/ });
  t.throws(bad({ colour: 1 }), { name: 'TypeError', message: /colour/ });
});
