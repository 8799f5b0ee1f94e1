/** Valid arguments of the elementwise, movement, index and reduction ops. */
import type { Storage } from '../binding.js';
import { BINARY_OPS, UNARY_OPS } from '../ops/elementwise.js';
import { type Generator, sizeOf } from './generator.js';
import type { FuzzTable } from './table.js';

const VIEWS = [
  'transpose',
  'slice',
  'stridedSlice',
  'split',
  'unpack',
  'reverse',
  'tile',
  'broadcast',
  'depthToSpace',
  'spaceToBatch',
  'batchToSpace',
];
const FLOATS: readonly Storage[] = ['f32', 'bf16'];
const NUMERIC: readonly Storage[] = ['f32', 'bf16', 'i32'];

/** Two shapes that broadcast. */
function broadcastPair(g: Generator): [number[], number[]] {
  const full = g.shape(g.int(0, 4));
  const shrink = (): number[] =>
    full.map((d) => (g.chance(0.3) ? 1 : d)).slice(g.chance(0.3) ? g.int(0, full.length) : 0);
  return [shrink(), shrink()];
}

function binary(storages: readonly Storage[]) {
  return (g: Generator): unknown[] => {
    const [a, b] = broadcastPair(g);
    const first = g.pick(storages);
    // Where one input is real both may be anything real; a condition needs nothing more.
    const tensors = [g.tensor(a, first), g.tensor(b, g.pick(storages))];
    return g.bool() ? tensors : [...tensors, a, b];
  };
}

/** A window of strides that stays inside a tensor. */
function view(g: Generator): unknown[] {
  const shape = g.shape(g.int(1, 4), 1);
  const strides = shape.map((_, i) => sizeOf(shape.slice(i + 1)));
  const dims = shape.map((d) => g.int(0, d));
  const offset = shape.reduce(
    (sum, d, i) => sum + g.int(0, Math.max(0, d - (dims[i] as number))) * (strides[i] as number),
    0,
  );
  const order = shape.map((_, i) => i).sort(() => g.unit() - 0.5);
  if (g.chance(0.2)) return [g.any(shape), [...dims, g.int(1, 4)], [...strides, 0], offset];
  return [g.any(shape), order.map((i) => dims[i]), order.map((i) => strides[i]), offset];
}

function rows(g: Generator, storages: readonly Storage[], smallest = 0): [unknown, number, number, number] {
  const [outer, reduced, inner] = [g.dim(), g.dim(smallest), g.dim()] as const;
  return [g.tensor([outer, reduced, inner], g.pick(storages)), outer, reduced, inner];
}

const unaryEntries = Object.fromEntries(
  Object.keys(UNARY_OPS).map((name) => [
    name,
    (g: Generator): unknown[] => [
      g.tensor(g.anyShape(), g.pick(name === 'logicalNot' ? ['bool'] : NUMERIC)),
      ...(g.bool() ? [0.2] : []),
    ],
  ]),
);

export const tensorTable: FuzzTable = {
  ...unaryEntries,
  ...Object.fromEntries(
    Object.entries(BINARY_OPS).map(([name, kind]) => [name, binary(kind === 'real' ? FLOATS : NUMERIC)]),
  ),
  ...Object.fromEntries(VIEWS.map((name) => [name, view])),
  clip: (g) => [g.tensor(g.anyShape(), g.pick(NUMERIC)), -1, 1],
  select: (g) => {
    const [a, b] = broadcastPair(g);
    const storage = g.pick(NUMERIC);
    return [g.tensor(a, 'bool'), g.tensor(b, storage), g.tensor(b, storage), a, b, b];
  },
  cast: (g) => [g.any(g.anyShape()), g.pick(['f32', 'bf16', 'i32', 'bool'])],
  fill: (g) => [g.pick(['f32', 'bf16', 'i32', 'bool']), g.anyShape(), g.int(-3, 3)],
  range: (g) => [g.pick(NUMERIC), g.int(0, 100), g.int(-5, 5), g.pick([1, -1, 2])],
  concat: (g) => {
    const [outer, inner] = [g.dim(), g.dim()];
    const sizes = Array.from({ length: g.int(1, 4) }, () => g.dim());
    const storage = g.pick(NUMERIC);
    return [sizes.map((size) => g.tensor([outer, size, inner], storage)), sizes, outer, inner];
  },
  pad: (g) => {
    const shape = g.shape(g.int(0, 4));
    const widths = (): number[] => shape.map(() => g.int(0, 3));
    return [g.tensor(shape, g.pick(NUMERIC)), shape, widths(), widths(), g.int(-1, 1)];
  },
  diag: (g) => [g.tensor([g.dim()], g.pick(NUMERIC))],
  gather: (g) => {
    const [batch, outer, dim, inner] = [g.int(1, 3), g.dim(), g.dim(1), g.dim()];
    return [
      g.any([batch, outer, dim, inner]),
      g.integers([batch, g.dim()], 0, dim - 1),
      batch,
      outer,
      dim,
      inner,
    ];
  },
  gatherNd: (g) => {
    const dims = g.shape(g.int(1, 3), 1);
    const [slice, count] = [g.dim(), g.dim()];
    return [
      g.any([...dims, slice]),
      g.integers([count, dims.length], 0, Math.min(...dims) - 1),
      dims,
      slice,
      count,
    ];
  },
  scatterNd: (g) => {
    const dims = g.shape(g.int(1, 3), 1);
    const [slice, count] = [g.dim(), g.dim()];
    const storage = g.pick(NUMERIC);
    const base = g.maybe(() => g.tensor([...dims, slice], storage));
    return [
      base,
      g.integers([count, dims.length], 0, Math.min(...dims) - 1),
      g.tensor([count, slice], storage),
      dims,
      slice,
      count,
    ];
  },
  segmentSum: (g) => {
    const [count, inner, segments] = [g.dim(), g.dim(), g.int(1, 9)];
    return [g.tensor([count, inner], g.pick(NUMERIC)), g.integers([count], 0, segments - 1), inner, segments];
  },
  oneHot: (g) => {
    const depth = g.int(1, 9);
    return [g.integers(g.shape(g.int(0, 2)), 0, depth - 1), g.pick(NUMERIC), depth, 1, 0];
  },
  bincount: (g) => {
    const [count, length, bins] = [g.int(1, 4), g.dim(), g.int(1, 9)];
    return [
      g.integers([count, length], 0, bins - 1),
      g.maybe(() => g.f32([count, length])),
      count,
      bins,
      g.bool(),
    ];
  },
  multinomial: (g) => {
    const count = g.int(1, 5);
    return [g.f32([count, g.int(1, 9)]), g.f32([count, g.dim()]), count];
  },
  ...Object.fromEntries(
    ['sum', 'mean', 'prod', 'max', 'min'].map((name) => [
      name,
      (g: Generator): unknown[] => rows(g, NUMERIC),
    ]),
  ),
  ...Object.fromEntries(['all', 'any'].map((name) => [name, (g: Generator): unknown[] => rows(g, ['bool'])])),
  ...Object.fromEntries(
    ['argMax', 'argMin'].map((name) => [name, (g: Generator): unknown[] => rows(g, NUMERIC, 1)]),
  ),
  ...Object.fromEntries(
    ['cumsum', 'cumprod'].map((name) => [
      name,
      (g: Generator): unknown[] => [...rows(g, NUMERIC), g.bool(), g.bool()],
    ]),
  ),
  softmax: (g) => {
    const columns = g.dim(1);
    return [g.tensor([g.dim(), columns], g.pick(FLOATS)), columns];
  },
  topK: (g) => {
    const columns = g.dim(1);
    return [g.tensor([g.dim(), columns], g.pick(NUMERIC)), columns, g.int(0, columns)];
  },
};
