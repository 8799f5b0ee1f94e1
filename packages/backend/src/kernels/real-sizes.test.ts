/**
 * Matrix kernels at the sizes of real layers, where devices take other kernels than at small sizes. Some outputs are
 * computed again in float64.
 */
import { type ConvWindow, FusedActivation, type Handle } from '@equipoise/native';
import { bf16Values, onlySmall, sizeOf, testEngine } from '@equipoise/testing';
import t from 'tap';
import { currentDevice, type EquipoiseBackend, useEngine } from '../index.js';

const skip = onlySmall() && 'only small sizes are asked for';
await useEngine(testEngine());
const { native } = currentDevice() as EquipoiseBackend;

const tensor = (shape: number[], seed: number): [Float32Array, Handle] => {
  const v = bf16Values(sizeOf(shape), seed);
  return [v, native.upload(v, 'f32', shape, 'bf16', false)];
};

/** Compares about 300 outputs, edges included, with `exact`; releases the handle. */
function compare(name: string, result: Handle, exact: (index: number) => number, limit: number): void {
  const actual = native.readSync(result) as Float32Array;
  native.release(result);
  let [error, total] = [0, 0];
  for (let i = 0; i < 300; i++) {
    const at = i < 4 ? i : i < 8 ? actual.length + 3 - i : (i * 2654435761) % actual.length;
    const expected = exact(at);
    error += ((actual[at] as number) - expected) ** 2;
    total += expected ** 2;
  }
  t.ok(total > 0 && error <= limit * limit * total, `${name}: error ${Math.sqrt(error / total)}`);
}

const at = (v: Float32Array, i: number): number => v[i] as number;

t.test('products of every transposition, stored as bf16 and as f32', { skip }, (t) => {
  const [m, n, k] = [2000, 1288, 328];
  for (const transposeA of [false, true]) {
    for (const transposeB of [false, true]) {
      const [a, ha] = tensor(transposeA ? [k, m] : [m, k], 1);
      const [b, hb] = tensor(transposeB ? [n, k] : [k, n], 2);
      const exact = (index: number): number => {
        const [i, j] = [Math.floor(index / n), index % n];
        let sum = 0;
        for (let d = 0; d < k; d++)
          sum += at(a, transposeA ? d * m + i : i * k + d) * at(b, transposeB ? j * k + d : d * n + j);
        return sum;
      };
      for (const storeF32 of [false, true]) {
        const c = native.ops.matMul(ha, hb, transposeA, transposeB, storeF32);
        compare(`${transposeA} ${transposeB} ${storeF32}`, c, exact, storeF32 ? 1e-6 : 4e-3);
      }
      native.release(ha);
      native.release(hb);
    }
  }
  t.end();
});

t.test('a linear layer with a low-rank term, a scale per column, a bias and an activation', { skip }, (t) => {
  const [m, n, k, r] = [1500, 960, 640, 32];
  const [x, hx] = tensor([m, k], 3);
  const [w, hw] = tensor([n, k], 4);
  const [u, hu] = tensor([m, r], 5);
  const [v, hv] = tensor([n, r], 6);
  const [scale, hscale] = tensor([n], 7);
  const [bias, hbias] = tensor([n], 8);
  const y = native.ops.linear(hx, hw, hbias, FusedActivation.Silu, hu, hv, 0.5, hscale, false, null);
  compare(
    'linear',
    y,
    (index) => {
      const [i, j] = [Math.floor(index / n), index % n];
      let sum = 0;
      for (let d = 0; d < k; d++) sum += at(x, i * k + d) * at(w, j * k + d);
      for (let d = 0; d < r; d++) sum += 0.5 * at(u, i * r + d) * at(v, j * r + d);
      const value = at(scale, j) * sum + at(bias, j);
      return value / (1 + Math.exp(-value));
    },
    4e-3,
  );
  for (const h of [hx, hw, hu, hv, hscale, hbias]) native.release(h);
  t.end();
});

t.test('a 3 x 3 convolution and both its gradients', { skip }, (t) => {
  const [batch, side, channels, outputs] = [2, 32, 192, 320];
  const window: ConvWindow = [1, 1, 1, 1, 1, 1, side, side];
  const image = [batch, side, side, channels];
  const filter = [3, 3, channels, outputs];
  const [x, hx] = tensor(image, 9);
  const [f, hf] = tensor(filter, 10);
  const [dy, hdy] = tensor([batch, side, side, outputs], 11);
  const split = (index: number, last: number): [number, number, number, number] => {
    const pixel = Math.floor(index / last);
    return [Math.floor(pixel / side / side), Math.floor(pixel / side) % side, pixel % side, index % last];
  };
  const inside = (h: number, w: number): boolean => h >= 0 && h < side && w >= 0 && w < side;
  /** Calls visit(r, s, pixel) for the taps of pixel (b, h, w); `sign` -1 mirrors them. */
  const taps = (index: number, last: number, sign: number, visit: (tap: number, pixel: number) => void) => {
    const [b, h, w] = split(index, last);
    for (let tap = 0; tap < 9; tap++) {
      const [p, q] = [h + sign * (Math.floor(tap / 3) - 1), w + sign * ((tap % 3) - 1)];
      if (inside(p, q)) visit(tap, (b * side + p) * side + q);
    }
  };
  const y = native.ops.conv2d(hx, hf, window, null, FusedActivation.None, 0, null, false, null);
  compare(
    'y',
    y,
    (index) => {
      let sum = 0;
      taps(index, outputs, 1, (tap, pixel) => {
        for (let i = 0; i < channels; i++)
          sum += at(x, pixel * channels + i) * at(f, (tap * channels + i) * outputs + (index % outputs));
      });
      return sum;
    },
    4e-3,
  );
  compare(
    'dx',
    native.ops.conv2dGradInput(hdy, hf, image, window),
    (index) => {
      let sum = 0;
      taps(index, channels, -1, (tap, pixel) => {
        for (let o = 0; o < outputs; o++)
          sum += at(dy, pixel * outputs + o) * at(f, (tap * channels + (index % channels)) * outputs + o);
      });
      return sum;
    },
    4e-3,
  );
  compare(
    'df',
    native.ops.conv2dGradFilter(hx, hdy, filter, window),
    (index) => {
      const [o, i, tap] = [
        index % outputs,
        Math.floor(index / outputs) % channels,
        Math.floor(index / outputs / channels),
      ];
      let sum = 0;
      for (let pixel = 0; pixel < batch * side * side; pixel++) {
        const [h, w] = [
          (Math.floor(pixel / side) % side) + Math.floor(tap / 3) - 1,
          (pixel % side) + (tap % 3) - 1,
        ];
        if (!inside(h, w)) continue;
        const from = (Math.floor(pixel / side / side) * side + h) * side + w;
        sum += at(x, from * channels + i) * at(dy, pixel * outputs + o);
      }
      return sum;
    },
    1e-6,
  );
  for (const h of [hx, hf, hdy]) native.release(h);
  t.end();
});

t.test('attention over 1024 queries', { skip }, (t) => {
  const [length, heads, depth] = [1024, 3, 64];
  const width = heads * depth;
  const [q, hq] = tensor([1, length, width], 12);
  const [k, hk] = tensor([1, length, width], 13);
  const [v, hv] = tensor([1, length, width], 14);
  const [out, logsumexp] = native.ops.attention(hq, hk, hv, heads, false, 0.125) as [Handle, Handle];
  compare(
    'output',
    out,
    (index) => {
      const [i, channel] = [Math.floor(index / width), index % width];
      const head = Math.floor(channel / depth) * depth;
      let [sum, total] = [0, 0];
      for (let j = 0; j < length; j++) {
        let score = 0;
        for (let d = 0; d < depth; d++) score += at(q, i * width + head + d) * at(k, j * width + head + d);
        const weight = Math.exp(score * 0.125);
        total += weight;
        sum += weight * at(v, j * width + channel);
      }
      return sum / total;
    },
    1e-2,
  );
  for (const h of [hq, hk, hv, logsumexp]) native.release(h);
  t.end();
});
