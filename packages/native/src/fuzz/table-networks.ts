/** Valid arguments of the ops that networks and training are made of. */
import { type Generator, sizeOf } from './generator.js';
import type { FuzzTable } from './table.js';

/** Batch, heads, query and key lengths, channels of one attention call. */
function attentionSizes(g: Generator): {
  b: number;
  heads: number;
  lq: number;
  lk: number;
  c: number;
  causal: boolean;
} {
  const heads = g.int(1, 4);
  const lq = g.dim();
  const causal = g.bool();
  return { b: g.int(0, 3), heads, lq, lk: Math.max(1, lq) + g.int(0, 5), c: heads * g.int(1, 20), causal };
}

function matrices(g: Generator): { args: unknown[]; m: number; n: number } {
  const [m, k, n] = [g.dim(), g.dim(), g.dim()];
  const [ta, tb] = [g.bool(), g.bool()];
  const batch = g.chance(0.4) ? [g.int(1, 3)] : [];
  const a = g.tensor([...batch, ...(ta ? [k, m] : [m, k])]);
  const b = g.tensor([...(g.bool() ? batch : []), ...(tb ? [n, k] : [k, n])]);
  return { args: [a, b, ta, tb], m, n };
}

function fusedMatMul(g: Generator): unknown[] {
  const { args, n } = matrices(g);
  const vector = (): unknown => g.tensor([n]);
  const activation = g.int(0, 9);
  const prelu = activation === 5 ? vector() : null;
  return [...args, g.bool() ? vector() : null, activation, 0.2, prelu, null, 1, 1, g.bool()];
}

function linear(g: Generator): unknown[] {
  const lead = g.shape(g.int(1, 2));
  const [k, n, rank] = [g.dim(), g.dim(), g.int(1, 8)];
  const m = sizeOf(lead);
  const lowRank = g.bool();
  const optional = (shape: number[]): unknown => (g.bool() ? g.tensor(shape) : null);
  const activation = g.pick([0, 1, 2, 3, 4, 6, 7, 8, 9]);
  const terms = lowRank ? [g.tensor([m, rank]), g.tensor([n, rank])] : [null, null];
  return [
    g.tensor([...lead, k]),
    g.tensor([n, k]),
    optional([n]),
    activation,
    ...terms,
    0.5,
    optional([n]),
    g.bool(),
    optional([...lead, n]),
  ];
}

/** Rows and channels of a norm, with its input. */
function normInput(g: Generator): { x: unknown; rows: number; channels: number } {
  const lead = g.shape(g.int(0, 3));
  const channels = g.dim(1);
  return { x: g.tensor([...lead, channels]), rows: sizeOf(lead), channels };
}

function groupNormInput(g: Generator): {
  x: unknown;
  shape: number[];
  samples: number;
  channels: number;
  groups: number;
} {
  const groups = g.int(1, 5);
  const channels = groups * g.int(1, 12);
  const shape = [g.dim(), ...g.shape(g.int(0, 2)), channels];
  return { x: g.tensor(shape), shape, samples: shape[0] as number, channels, groups };
}

/** Heights and widths of a pooling window over an image; see native/addon/ops/image.cc for the order. */
function poolWindow(g: Generator): { input: number[]; output: number[]; window: number[] } {
  const [batch, channels] = [g.int(0, 3), g.dim()];
  const axis = (): {
    size: number;
    out: number;
    window: number;
    stride: number;
    dilation: number;
    pad: number;
  } => {
    const [size, window, stride, dilation] = [g.int(1, 12), g.int(1, 4), g.int(1, 3), g.int(1, 2)];
    const pad = g.int(0, 2);
    const reach = (window - 1) * dilation + 1;
    return {
      size,
      window,
      stride,
      dilation,
      pad,
      out: Math.max(0, Math.floor((size + 2 * pad - reach) / stride) + 1),
    };
  };
  const [y, x] = [axis(), axis()];
  return {
    input: [batch, y.size, x.size, channels],
    output: [batch, y.out, x.out, channels],
    window: [
      batch,
      y.size,
      x.size,
      channels,
      y.out,
      x.out,
      y.window,
      x.window,
      y.stride,
      x.stride,
      y.dilation,
      x.dilation,
      y.pad,
      x.pad,
    ],
  };
}

export const networkTable: FuzzTable = {
  activation: (g) => {
    const shape = g.anyShape();
    return [g.int(0, 2), g.tensor(shape), g.maybe(() => g.tensor(shape))];
  },
  geglu: (g) => {
    const lead = g.shape(g.int(0, 2));
    const half = g.dim();
    return [g.tensor([...lead, 2 * half]), g.maybe(() => g.tensor([...lead, half]))];
  },
  attention: (g) => {
    const { b, heads, lq, lk, c, causal } = attentionSizes(g);
    return [g.tensor([b, lq, c]), g.tensor([b, lk, c]), g.tensor([b, lk, c]), heads, causal, 0.3];
  },
  attentionGrad: (g) => {
    const { b, heads, lq, lk, c, causal } = attentionSizes(g);
    const q = [b, lq, c];
    const k = [b, lk, c];
    return [
      g.tensor(q),
      g.tensor(k),
      g.tensor(k),
      g.tensor(q),
      g.f32([b, heads, lq]),
      g.tensor(q),
      heads,
      causal,
      0.3,
    ];
  },
  matMul: (g) => [...matrices(g).args, g.bool()],
  fusedMatMul,
  linear,
  layerNorm: (g) => {
    const { x, channels } = normInput(g);
    return [x, g.f32([channels]), g.f32([channels]), 1e-5];
  },
  layerNormGrad: (g) => {
    const { x, rows, channels } = normInput(g);
    return [x, g.f32([channels]), g.f32([rows]), g.f32([rows]), g.tensor([rows, channels])];
  },
  layerNormParamGrad: (g) => {
    const { x, rows, channels } = normInput(g);
    return [x, g.f32([rows]), g.f32([rows]), g.tensor([rows, channels])];
  },
  groupNorm: (g) => {
    const { x, channels, groups } = groupNormInput(g);
    return [x, g.f32([channels]), g.f32([channels]), groups, 1e-5, g.bool()];
  },
  groupNormGrad: (g) => {
    const { x, shape, samples, channels, groups } = groupNormInput(g);
    const statistics = (): unknown => g.f32([samples, groups]);
    return [
      x,
      g.f32([channels]),
      g.f32([channels]),
      statistics(),
      statistics(),
      g.tensor(shape),
      groups,
      g.bool(),
      g.bool(),
    ];
  },
  maxPool: (g) => {
    const { input, window } = poolWindow(g);
    return [g.tensor(input), window];
  },
  avgPool: (g) => {
    const { input, window } = poolWindow(g);
    return [g.tensor(input), window];
  },
  maxPoolGrad: (g) => {
    const { input, output, window } = poolWindow(g);
    return [g.tensor(input), g.tensor(output), window];
  },
  avgPoolGrad: (g) => {
    const { output, window } = poolWindow(g);
    return [null, g.tensor(output), window];
  },
  resize: (g) => {
    const [batch, inHeight, inWidth, outHeight, outWidth, channels] = [
      g.int(0, 3),
      g.int(1, 9),
      g.int(1, 9),
      g.int(1, 17),
      g.int(1, 17),
      g.dim(),
    ];
    const [bilinear, backward, alignCorners] = [g.bool(), g.bool(), g.bool()];
    const size = backward ? [batch, outHeight, outWidth, channels] : [batch, inHeight, inWidth, channels];
    return [
      g.tensor(size),
      bilinear,
      backward,
      alignCorners,
      !alignCorners && g.bool(),
      [batch, inHeight, inWidth, outHeight, outWidth, channels],
    ];
  },
  miSquaredNorm: (g) => {
    const shape = [g.dim(), ...g.shape(g.int(0, 2))];
    return [g.tensor(shape), g.tensor(shape), g.f32([shape[0] as number])];
  },
  miSquaredNormGrad: (g) => {
    const shape = [g.dim(), ...g.shape(g.int(0, 2))];
    return [g.tensor(shape), g.tensor(shape), g.f32([shape[0] as number]), g.f32([shape[0] as number])];
  },
  guidedStep: (g) => {
    const shape = [g.dim(), ...g.shape(g.int(0, 2))];
    return [
      g.tensor(shape),
      g.tensor(shape),
      g.tensor(shape),
      g.maybe(() => g.tensor(shape)),
      7.5,
      0.1,
      1.01,
      -0.02,
      0.1,
    ];
  },
  directionAlignment: (g) => {
    const [before, categories, after, depth] = [g.int(1, 3), g.int(2, 5), g.int(1, 3), g.dim(1)];
    const present = Array.from({ length: categories }, () => g.int(0, 1));
    return [
      g.f32([before * categories * after, depth]),
      g.f32([depth]),
      g.f32([categories, depth]),
      before,
      categories,
      after,
      0.8,
      present,
    ];
  },
  adamW: (g) => {
    const tensors = Array.from({ length: g.int(1, 4) }, () => g.shape(g.int(0, 2))).flatMap((shape) =>
      // Frozen weights are refused, and the generator freezes some: parameters are made here.
      Array.from({ length: 4 }, () => g.variable(shape)),
    );
    return [tensors, g.int(1, 1000), 1e-3, 0.9, 0.999, 1e-8, 0.01, g.pick([0, 1]), 1];
  },
  ceilingMultiply: (g) => [false, g.int(1, 100)],
  ceilingCopy: (g) => [g.any(g.anyShape())],
  philox: (g) => [g.anyShape(), g.bits(), g.bits(), g.bits(), g.bits(), g.int(0, 1000), g.bool()],
};
