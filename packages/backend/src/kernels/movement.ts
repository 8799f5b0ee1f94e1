/** Kernels that only move elements: strided readings of one tensor, and joins of several. */
import type { ViewOp } from '@equipoise/native';
import type { TensorInfo } from '@tensorflow/tfjs-core';
import * as tf from '@tensorflow/tfjs-core';
import { mapParts } from './complex.js';
import { defineNative, type KernelCall } from './define.js';
import { keepsOrder, product, sameShape, splitAt, stridesOf } from './geometry.js';
import { concatStrings, readStrings } from './strings.js';

/** Which elements of x a result consists of: those at offset + sum i_d strides_d, i_d < dims_d. */
interface Reading {
  dims: number[];
  strides: number[];
  offset?: number;
  /** The result's shape, where it is not `dims`. */
  shape?: number[];
}

/** The tensor that a reading describes; complex tensors are read part by part. */
function read(call: KernelCall, op: ViewOp, x: TensorInfo, reading: Reading): TensorInfo {
  if (x.dtype === 'complex64') return mapParts(call, x, (part) => read(call, op, part, reading));
  const { dims, strides, offset = 0, shape = dims } = reading;
  if (x.dtype === 'string') return readStrings(call, x, dims, strides, offset, shape);
  const y = call.ops[op](call.handle(x), dims, strides, offset);
  return shape === dims ? call.output(y, shape, x.dtype) : call.outputAs(y, shape, x.dtype);
}

const at =
  (sizes: readonly number[]) =>
  (d: number): number =>
    sizes[d] as number;
const dot = (a: readonly number[], b: readonly number[]): number =>
  a.reduce((sum, value, d) => sum + value * (b[d] as number), 0);

function transpose(call: KernelCall, op: ViewOp, x: TensorInfo, perm: readonly number[]): TensorInfo {
  const dims = perm.map(at(x.shape));
  if (keepsOrder(x.shape, perm)) return call.alias(x, dims);
  return read(call, op, x, { dims, strides: perm.map(at(stridesOf(x.shape))) });
}
defineNative('Transpose', (call) =>
  transpose(call, 'transpose', call.input('x'), call.attr<number[]>('perm')),
);

function slice(
  call: KernelCall,
  op: ViewOp,
  x: TensorInfo,
  begin: readonly number[],
  size: number[],
  shape = size,
): TensorInfo {
  if (sameShape(size, x.shape)) return call.alias(x, shape);
  const strides = stridesOf(x.shape);
  return read(call, op, x, { dims: size, strides, offset: dot(begin, strides), shape });
}

defineNative('Slice', (call) => {
  const x = call.input('x');
  const [begin, size] = tf.slice_util.parseSliceParams(
    x as tf.Tensor,
    call.attr<number[]>('begin'),
    call.attr<number[]>('size'),
  );
  tf.slice_util.assertParamsValid(x as tf.Tensor, begin as number[], size as number[]);
  return slice(call, 'slice', x, begin as number[], size as number[]);
});

defineNative('StridedSlice', (call) => {
  const x = call.input('x');
  const info = tf.slice_util.sliceInfo(
    x.shape,
    ...((['begin', 'end', 'strides'] as const).map((name) => call.attr<number[]>(name)) as [
      number[],
      number[],
      number[],
    ]),
    ...((['beginMask', 'endMask', 'ellipsisMask', 'newAxisMask', 'shrinkAxisMask'] as const).map((name) =>
      call.attr<number>(name),
    ) as [number, number, number, number, number]),
  );
  if (info.isIdentity) return call.alias(x, info.finalShape);
  const steps = stridesOf(x.shape);
  const dims = info.begin.map((begin, d) =>
    Math.max(0, Math.ceil(((info.end[d] as number) - begin) / (info.strides[d] as number))),
  );
  return read(call, 'stridedSlice', x, {
    dims,
    strides: steps.map((step, d) => step * (info.strides[d] as number)),
    offset: product(dims) === 0 ? 0 : dot(info.begin, steps),
    shape: info.finalShape,
  });
});

defineNative('SplitV', (call) => {
  const x = call.input('x');
  const [axis] = tf.util.parseAxisParam(call.attr<number>('axis'), x.shape) as [number];
  const sizes = tf.backend_util.prepareSplitSize(
    x as tf.Tensor,
    call.attr<number | number[]>('numOrSizeSplits'),
    axis,
  );
  const begin = x.shape.map(() => 0);
  return sizes.map((length) => {
    const part = slice(call, 'split', x, begin, x.shape.with(axis, length));
    begin[axis] = (begin[axis] as number) + length;
    return part;
  });
});

defineNative('Unpack', (call) => {
  const x = call.input('value');
  const [axis] = tf.util.parseAxisParam(call.attr<number>('axis'), x.shape) as [number];
  const shape = x.shape.toSpliced(axis, 1);
  return Array.from({ length: x.shape[axis] as number }, (_, i) =>
    slice(
      call,
      'unpack',
      x,
      x.shape.map((_, d) => (d === axis ? i : 0)),
      x.shape.with(axis, 1),
      shape,
    ),
  );
});

defineNative('Reverse', (call) => {
  const x = call.input('x');
  const reversed = new Set(tf.util.parseAxisParam(call.attr<number | number[]>('dims'), x.shape));
  const steps = stridesOf(x.shape);
  const last = x.shape.map((size, d) => (reversed.has(d) ? Math.max(0, size - 1) : 0));
  return read(call, 'reverse', x, {
    dims: x.shape,
    strides: steps.map((step, d) => (reversed.has(d) ? -step : step)),
    offset: product(x.shape) === 0 ? 0 : dot(last, steps),
  });
});

defineNative('Tile', (call) => {
  const x = call.input('x');
  const reps = call.attr<number[]>('reps');
  const steps = stridesOf(x.shape);
  return read(call, 'tile', x, {
    dims: x.shape.flatMap((size, d) => [reps[d] as number, size]),
    strides: steps.flatMap((step) => [0, step]),
    shape: x.shape.map((size, d) => size * (reps[d] as number)),
  });
});

/** [N, H, W, b*b*C] -> [N, H*b, W*b, C] */
defineNative('DepthToSpace', (call) => {
  const x = call.input('x');
  const [block, format] = [
    call.attr<number>('blockSize'),
    call.attr<string | undefined>('dataFormat') ?? 'NHWC',
  ];
  if (format !== 'NHWC') throw new RangeError(`DepthToSpace: dataFormat: expected NHWC, got ${format}`);
  const [n, h, w, depth] = x.shape as [number, number, number, number];
  const c = depth / (block * block);
  const [sn, sh, sw] = stridesOf(x.shape) as [number, number, number, number];
  return read(call, 'depthToSpace', x, {
    dims: [n, h, block, w, block, c],
    strides: [sn, sh, block * c, sw, c, 1],
    shape: [n, h * block, w * block, c],
  });
});

/** [N, spatial..., rest] padded, then every block's elements become batch entries. */
defineNative('SpaceToBatchND', (call) => {
  const x = call.input('x');
  const [block, paddings] = [call.attr<number[]>('blockShape'), call.attr<number[][]>('paddings')];
  const pads = x.shape.map((_, d) => paddings[d - 1] ?? [0, 0]) as Array<[number, number]>;
  const padded = pad(call, x, pads, 0);
  const [rest, steps] = [x.shape.slice(block.length + 1), stridesOf(padded.shape)];
  const blocks = block.map((size, i) => (padded.shape[i + 1] as number) / size);
  const result = read(call, 'spaceToBatch', padded, {
    dims: [...block, x.shape[0] as number, ...blocks, ...rest],
    strides: [
      ...block.map((_, i) => at(steps)(i + 1)),
      at(steps)(0),
      ...block.map((size, i) => at(steps)(i + 1) * size),
      ...steps.slice(block.length + 1),
    ],
    shape: [(x.shape[0] as number) * product(block), ...blocks, ...rest],
  });
  call.dispose(padded);
  return result;
});

/** The inverse: batch entries become blocks, then the borders are cropped. */
defineNative('BatchToSpaceND', (call) => {
  const x = call.input('x');
  const [block, crops] = [call.attr<number[]>('blockShape'), call.attr<number[][]>('crops')];
  const [batch, rest, steps] = [
    (x.shape[0] as number) / product(block),
    x.shape.slice(block.length + 1),
    stridesOf(x.shape),
  ];
  const batchSteps = stridesOf([...block, batch]).map((step) => step * at(steps)(0));
  const spread = read(call, 'batchToSpace', x, {
    dims: [batch, ...block.flatMap((size, i) => [at(x.shape)(i + 1), size]), ...rest],
    strides: [
      batchSteps.at(-1) as number,
      ...block.flatMap((_, i) => [at(steps)(i + 1), batchSteps[i] as number]),
      ...steps.slice(block.length + 1),
    ],
    shape: [batch, ...block.map((size, i) => at(x.shape)(i + 1) * size), ...rest],
  });
  const begin = spread.shape.map((_, d) => crops[d - 1]?.[0] ?? 0);
  const size = spread.shape.map((length, d) => length - (begin[d] as number) - (crops[d - 1]?.[1] ?? 0));
  const result = slice(call, 'batchToSpace', spread, begin, size);
  call.dispose(spread);
  return result;
});

function concat(
  call: KernelCall,
  parts: TensorInfo[],
  sizes: number[],
  outer: number,
  inner: number,
  shape: number[],
): TensorInfo {
  const [first] = parts as [TensorInfo];
  if (first.dtype === 'complex64') {
    const pairs = parts.map((part) => call.backend.complexParts(part));
    const join = (name: 'real' | 'imag') =>
      concat(
        call,
        pairs.map((pair) => pair[name]),
        sizes,
        outer,
        inner,
        shape,
      );
    return call.backend.registerComplex(join('real'), join('imag'));
  }
  if (first.dtype === 'string') return concatStrings(call, parts, sizes, outer, inner, shape);
  return call.outputAs(
    call.ops.concat(
      parts.map((part) => call.handle(part)),
      sizes,
      outer,
      inner,
    ),
    shape,
    first.dtype,
  );
}

defineNative('Concat', (call) => {
  const inputs = call.list();
  const [axis] = tf.util.parseAxisParam(call.attr<number>('axis'), (inputs[0] as TensorInfo).shape) as [
    number,
  ];
  tf.backend_util.assertParamsConsistent(
    inputs.map((x) => x.shape),
    axis,
  );
  const shape = tf.backend_util.computeOutShape(
    inputs.map((x) => x.shape),
    axis,
  );
  const parts = inputs.filter((x) => product(x.shape) > 0);
  if (parts.length === 1) return call.alias(parts[0] as TensorInfo, shape);
  const { outer, inner } = splitAt(shape, axis);
  const used = parts.length > 0 ? parts : inputs;
  return concat(
    call,
    used,
    used.map((x) => x.shape[axis] as number),
    outer,
    inner,
    shape,
  );
});

defineNative('Pack', (call) => {
  const parts = call.list();
  const [first] = parts as [TensorInfo];
  const axis = call.attr<number>('axis');
  for (const x of parts) {
    tf.util.assertShapesMatch(first.shape, x.shape, 'Pack: all tensors must have the same shape: ');
    if (x.dtype !== first.dtype)
      throw new TypeError(`Pack: all tensors must have the same type: ${first.dtype} and ${x.dtype}`);
  }
  const shape = first.shape.toSpliced(axis < 0 ? axis + first.shape.length + 1 : axis, 0, parts.length);
  if (parts.length === 1) return call.alias(first, shape);
  const at = axis < 0 ? axis + first.shape.length + 1 : axis;
  return concat(
    call,
    parts,
    parts.map(() => 1),
    product(first.shape.slice(0, at)),
    product(first.shape.slice(at)),
    shape,
  );
});

function pad(
  call: KernelCall,
  x: TensorInfo,
  paddings: ReadonlyArray<readonly [number, number]>,
  value: number,
): TensorInfo {
  if (x.dtype === 'complex64') return mapParts(call, x, (part) => pad(call, part, paddings, value));
  if (paddings.every(([before, after]) => before === 0 && after === 0)) return call.alias(x);
  const [before, after] = [paddings.map(([b]) => b), paddings.map(([, a]) => a)];
  const shape = x.shape.map((size, d) => size + (before[d] as number) + (after[d] as number));
  return call.output(call.ops.pad(call.handle(x), x.shape, before, after, value), shape, x.dtype);
}
defineNative('PadV2', (call) =>
  pad(
    call,
    call.input('x'),
    call.attr<Array<[number, number]>>('paddings'),
    call.attr<number>('constantValue'),
  ),
);

/** Axis by axis: the reversed border before, the tensor, the reversed border after. */
defineNative('MirrorPad', (call) => {
  const x = call.input('x');
  const edge = call.attr<string>('mode') === 'reflect' ? 1 : 0;
  let y = call.alias(x);
  call.attr<Array<[number, number]>>('paddings').forEach(([before, after], axis) => {
    if (before === 0 && after === 0) return;
    const { shape } = y;
    const { outer, length, inner } = splitAt(shape, axis);
    const border = (count: number, from: number) =>
      read(call, 'reverse', y, {
        dims: [outer, count, inner],
        strides: [length * inner, -inner, 1],
        offset: count === 0 ? 0 : from * inner,
      });
    const parts = [border(before, before - 1 + edge), y, border(after, length - 1 - edge)];
    const joined = concat(
      call,
      parts,
      [before, length, after],
      outer,
      inner,
      shape.with(axis, before + length + after),
    );
    for (const part of parts) call.dispose(part);
    y = joined;
  });
  return y;
});

defineNative('Diag', (call) => {
  const x = call.input('x');
  return call.outputAs(call.ops.diag(call.handle(x)), [...x.shape, ...x.shape], x.dtype);
});

/** Small and needed on the host at once: the shape that two shapes broadcast to. */
defineNative('BroadcastArgs', (call) => {
  const shapes = ['s0', 's1'].map((name) => {
    const x = call.input(name);
    return [...(call.backend.knownIntegers(x) ?? (call.backend.readSync(x.dataId) as Int32Array))];
  }) as [number[], number[]];
  const shape = Int32Array.from(tf.backend_util.assertAndGetBroadcastShape(...shapes));
  return {
    dataId: call.backend.write(shape, [shape.length], 'int32'),
    shape: [shape.length],
    dtype: 'int32',
  };
});
