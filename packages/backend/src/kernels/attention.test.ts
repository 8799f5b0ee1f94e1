/** Attention at depths, lengths and storages that take different kernels, against its float64 definition. */
import { PhiloxStream } from '@equipoise/core';
import { type Array64, attention64, requireClose, testEngine } from '@equipoise/testing';
import * as tf from '@tensorflow/tfjs-core';
import t from 'tap';
import { attention } from '../fused/index.js';
import { uploadWeight, useEngine } from '../index.js';

interface Case {
  b: number;
  lq: number;
  lk: number;
  heads: number;
  depth: number;
  causal?: boolean;
  scale?: number;
}

const CASES: Case[] = [
  { b: 2, lq: 5, lk: 70, heads: 3, depth: 8 },
  { b: 1, lq: 129, lk: 65, heads: 2, depth: 64 },
  { b: 1, lq: 70, lk: 131, heads: 1, depth: 64, causal: true },
  { b: 1, lq: 33, lk: 33, heads: 2, depth: 80, causal: true, scale: 0.3 },
  { b: 1, lq: 17, lk: 66, heads: 1, depth: 96, scale: -0.2 },
  { b: 1, lq: 66, lk: 97, heads: 1, depth: 160, causal: true },
  { b: 1, lq: 9, lk: 40, heads: 2, depth: 12, causal: true },
  { b: 1, lq: 20, lk: 35, heads: 1, depth: 168 },
];

const normal = (stream: number, size: number): Float32Array =>
  new PhiloxStream(47, stream).fillNormal(new Float32Array(size));

/** The nearest numbers that bf16 holds, ties to even. */
function rounded(values: Float32Array): Float32Array {
  const words = new Uint32Array(values.buffer.slice(0));
  for (let i = 0; i < words.length; i++) {
    const word = words[i] as number;
    words[i] = ((word + 0x7fff + ((word >>> 16) & 1)) & 0xffff0000) >>> 0;
  }
  return new Float32Array(words.buffer);
}

/** Output and gradients on an engine; `store` says which of q, k and v are stored as bf16. */
async function run(
  engine: Parameters<typeof useEngine>[0],
  { heads, causal = false, scale, ...c }: Case,
  inputs: Float32Array[],
  store: boolean[],
) {
  await useEngine(engine);
  const shapes = [c.lq, c.lk, c.lk].map((length) => [c.b, length, heads * c.depth]);
  const tensors = inputs.map((values, i) =>
    store[i]
      ? uploadWeight(new Uint8Array(values.buffer), shapes[i] as number[], 'F32', { storage: 'bf16' })
      : tf.tensor(values, shapes[i] as number[]),
  );
  const op = (q: tf.Tensor, k: tf.Tensor, v: tf.Tensor): tf.Tensor =>
    attention(q, k, v, { heads, causal, ...(scale !== undefined && { scale }) });
  const y = op(...(tensors as [tf.Tensor, tf.Tensor, tf.Tensor]));
  const dy = tf.tensor(rounded(normal(9, y.size)), y.shape);
  const gradients = tf.grads(op as (...args: tf.Tensor[]) => tf.Tensor)(tensors, dy);
  const values = await Promise.all([y, ...gradients].map((x) => x.data() as Promise<Float32Array>));
  tf.dispose([tensors, y, dy, gradients]);
  return values;
}

for (const c of CASES) {
  t.test(JSON.stringify(c), async (t) => {
    const width = c.heads * c.depth;
    const inputs = [c.lq, c.lk, c.lk].map((length, i) => rounded(normal(i, c.b * length * width)));
    const arrays = inputs.map(
      (values, i): Array64 => ({
        shape: [c.b, i === 0 ? c.lq : c.lk, width],
        data: Float64Array.from(values),
      }),
    );
    const exact = attention64(...(arrays as [Array64, Array64, Array64]), {
      heads: c.heads,
      causal: c.causal ?? false,
      ...(c.scale !== undefined && { scale: c.scale }),
    });
    const portable = await run('cpu', c, inputs, [false, false, false]);
    for (const [name, store, limit] of [
      ['f32', [false, false, false], 1e-5],
      ['bf16', [true, true, true], 1e-2],
      ['mixed', [false, true, true], 1e-2],
    ] as Array<[string, boolean[], number]>) {
      const values = await run(testEngine(), c, inputs, store);
      requireClose(`${name} output`, values[0] as Float32Array, exact.data, { relativeNorm: limit });
      for (const [i, gradient] of ['dq', 'dk', 'dv'].entries()) {
        requireClose(`${name} ${gradient}`, values[i + 1] as Float32Array, portable[i + 1] as Float32Array, {
          relativeNorm: limit,
        });
      }
    }
    t.pass();
  });
}
