/** What the fused ops refuse, and what they say. */
import * as tf from '@tensorflow/tfjs-core';
import t from 'tap';
import { useEngine } from '../index.js';
import * as fused from './index.js';

t.test('bad input is refused by name', async (t) => {
  await useEngine('cpu');
  const x = tf.ones([2, 3, 8]);
  const c = tf.ones([8]);
  const gone = tf.ones([2]);
  gone.dispose();
  const w = {
    weight: tf.ones([4, 8]),
    bias: null,
    loraA: tf.ones([2, 8]),
    loraB: tf.ones([4, 2]),
    magnitude: null,
    scaling: 1,
  };
  const param = { parameter: tf.variable(c), gradient: c, m: tf.variable(c), v: tf.variable(c) };
  const step = { epsUncond: c, epsCond: c, latents: c, guidance: 1, miWeight: 1, cx: 1, ce: 1 };
  const guided = (change: object) => () => fused.guidedStep({ ...step, ...change });
  const refusals: Array<[() => unknown, string, RegExp]> = [
    [() => fused.silu(gone), 'TypeError', /silu: x: expected a live tensor/],
    [() => fused.gelu([1] as never), 'TypeError', /gelu: x: expected a tensor, got \[1\]/],
    [
      () => fused.quickGelu(tf.ones([2], 'int32')),
      'TypeError',
      /quickGelu: x: expected a float32 tensor, got a int32/,
    ],
    [() => fused.geglu(tf.ones([2, 3])), 'RangeError', /geglu: x: expected an even number of channels/],
    [() => fused.attention(x, x, x, { heads: 3 }), 'RangeError', /q: expected channels divisible by 3 heads/],
    [
      () => fused.attention(x, tf.ones([2, 0, 8]), tf.ones([2, 0, 8]), { heads: 2 }),
      'RangeError',
      /k: .*one key/,
    ],
    [
      () => fused.attention(x, tf.ones([1, 3, 8]), x, { heads: 2 }),
      'RangeError',
      /k: expected shape \[2,any,8\]/,
    ],
    [
      () => fused.attention(x, x, tf.ones([2, 2, 8]), { heads: 2 }),
      'RangeError',
      /v: expected shape \[2,3,8\]/,
    ],
    [() => fused.attention(x, x, x, { heads: 2, mask: 1 } as never), 'TypeError', /mask/],
    [() => fused.attention(tf.ones([2, 4, 8]), x, x, { heads: 2, causal: true }), 'RangeError', /causal/],
    [() => fused.groupNorm(x, c, c, { groups: 3, epsilon: 0 }), 'RangeError', /groups/],
    [() => fused.groupNorm(x, c, c, { groups: 2, epsilon: -1 }), 'RangeError', /epsilon: .* >= 0, got -1/],
    [
      () => fused.groupNorm(x, tf.ones([7]), c, { groups: 2, epsilon: 0 }),
      'RangeError',
      /gamma: expected shape \[8\]/,
    ],
    [
      () => fused.groupNorm(x, c, tf.ones([7]), { groups: 2, epsilon: 0 }),
      'RangeError',
      /beta: expected shape \[8\]/,
    ],
    [() => fused.layerNorm(x, c, c, { epsilon: -1 }), 'RangeError', /epsilon: .* >= 0, got -1/],
    [() => fused.linear(x, tf.ones([4, 7])), 'RangeError', /weight: expected shape \[any,8\]/],
    [() => fused.linear(x, tf.ones([4, 8]), null, 'tanh' as never), 'RangeError', /activation/],
    [
      () => fused.linear(x, tf.ones([4, 8]), null, 'none', { residual: tf.ones([2, 3, 5]) }),
      'RangeError',
      /residual: expected shape/,
    ],
    [
      () => fused.linear(x, tf.ones([8, 8]), null, 'silu', { residual: x }),
      'RangeError',
      /activation: expected 'none' beside a residual/,
    ],
    [
      () => fused.linear(x, tf.ones([4, 8]), null, 'none', { narrow: true } as never),
      'TypeError',
      /unknown option 'narrow'/,
    ],
    [
      () =>
        fused.conv2d(tf.ones([1, 2, 2, 1]), tf.ones([1, 1, 1, 3]), null, {
          pad: 'same',
          residual: tf.ones([1, 2, 2, 1]),
        }),
      'RangeError',
      /residual: expected shape \[1,2,2,3\]/,
    ],
    [() => fused.conv2d(x, c, null, { pad: 'same' }), 'RangeError', /x: expected shape \[any,any,any,any\]/],
    [
      () => fused.conv2d(tf.ones([1, 2, 2, 1]), tf.ones([3, 3, 1, 1]), null, { pad: 'valid' }),
      'RangeError',
      /fits/,
    ],
    [
      () => fused.conv2d(tf.ones([1, 2, 2, 1]), tf.ones([1, 1, 1, 1]), null, { pad: [1, 1] as never }),
      'TypeError',
      /pad: expected 'same'/,
    ],
    [
      () => fused.conv2d(tf.ones([1, 2, 2, 1]), tf.ones([1, 1, 1, 1]), null, { pad: [[0, 0], 1] as never }),
      'TypeError',
      /pad: expected 'same'/,
    ],
    [
      () => fused.doraLinear(x, { ...w, loraB: tf.ones([4, 3]) }),
      'RangeError',
      /loraB: expected shape \[4,2\]/,
    ],
    [() => fused.doraLinear(x, { ...w, norm: tf.ones([4]) }), 'TypeError', /norm/],
    [() => fused.doraLinear(x, { ...w, scaling: Infinity }), 'RangeError', /scaling/],
    [() => fused.miSquaredNorm(x, x, tf.ones([3])), 'RangeError', /weights: expected shape \[2\]/],
    [
      () => fused.miSquaredNorm(tf.scalar(1), tf.scalar(1), c),
      'RangeError',
      /epsCond: expected rank at least 1/,
    ],
    [() => fused.guidedStep(null as never), 'TypeError', /guidedStep: options: expected an object, got null/],
    [guided({ latents: tf.scalar(1) }), 'RangeError', /latents: expected rank at least 1/],
    [guided({ epsUncond: gone }), 'TypeError', /guidedStep: epsUncond: expected a live tensor/],
    [guided({ epsUncond: tf.ones([7]) }), 'RangeError', /guidedStep: epsUncond: expected shape \[8\]/],
    [guided({ epsCond: tf.ones([1]) }), 'RangeError', /guidedStep: epsCond: expected shape \[8\]/],
    [guided({ cn: 1, noise: tf.ones([7]) }), 'RangeError', /guidedStep: noise: expected shape \[8\]/],
    [guided({ cn: 1 }), 'TypeError', /noise/],
    [guided({ noise: c }), 'TypeError', /cn/],
    [guided({ guidance: NaN }), 'RangeError', /guidance/],
    [() => fused.adamW([], { step: 1, learningRate: 1 }), 'RangeError', /parameters/],
    [() => fused.adamW([param], { step: 0, learningRate: 1 }), 'RangeError', /step: .* >= 1, got 0/],
    [() => fused.adamW([param], { step: 1, learningRate: 1, beta1: 1 }), 'RangeError', /beta1/],
    [() => fused.adamW([param, param], { step: 1, learningRate: 1 }), 'RangeError', /occurs once/],
    [
      () => fused.adamW([{ ...param, m: c as never }], { step: 1, learningRate: 1 }),
      'TypeError',
      /m: expected a variable/,
    ],
    [() => fused.randomNormal([-1], { seed: 0, stream: 0 }), 'RangeError', /shape/],
    [() => fused.randomNormal([1], { seed: -1, stream: 0 }), 'RangeError', /seed/],
    [() => fused.randomUniform([1], { seed: '1' as never, stream: 0 }), 'TypeError', /seed/],
    [() => fused.randomUniform([2 ** 30, 2 ** 30], { seed: 1, stream: 0 }), 'RangeError', /2\^40/],
  ];
  for (const [call, name, message] of refusals) {
    const error = t.throws(call, { name, message });
    const said = error instanceof Error ? error.message : 'nothing';
    t.ok(Object.hasOwn(fused, said.split(':')[0] as string), `names the function: ${said}`);
  }
});
