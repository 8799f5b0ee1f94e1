/** Valid arguments of convolutions and adapter layers. */
import type { Generator } from './generator.js';
import type { FuzzTable } from './table.js';

interface ConvCase {
  readonly image: number[];
  readonly filter: number[];
  readonly output: number[];
  /** [strideHeight, strideWidth, dilationHeight, dilationWidth, top, left, outHeight, outWidth] */
  readonly window: number[];
}

function convCase(g: Generator): ConvCase {
  const axis = (): {
    size: number;
    taps: number;
    stride: number;
    dilation: number;
    pad: number;
    out: number;
  } => {
    const [size, taps, stride, dilation, pad] = [
      g.int(1, 12),
      g.int(1, 4),
      g.int(1, 3),
      g.int(1, 2),
      g.int(0, 2),
    ];
    const reach = (taps - 1) * dilation + 1;
    return {
      size,
      taps,
      stride,
      dilation,
      pad,
      out: Math.max(0, Math.floor((size + 2 * pad - reach) / stride) + 1),
    };
  };
  const [y, x] = [axis(), axis()];
  const [batch, channels, outChannels] = [g.int(0, 3), g.dim(), g.dim()];
  return {
    image: [batch, y.size, x.size, channels],
    filter: [y.taps, x.taps, channels, outChannels],
    output: [batch, y.out, x.out, outChannels],
    window: [y.stride, x.stride, y.dilation, x.dilation, y.pad, x.pad, y.out, x.out],
  };
}

/** Sizes of an adapted layer: rows, outputs, inputs, rank. */
function doraSizes(g: Generator): { m: number; n: number; k: number; r: number } {
  return { m: g.dim(), n: g.dim(1), k: g.dim(1), r: g.int(1, 8) };
}

export const layerTable: FuzzTable = {
  conv2d: (g) => {
    const { image, filter, output, window } = convCase(g);
    const vector = (): unknown => g.tensor([filter[3] as number]);
    const activation = g.int(0, 9);
    return [
      g.tensor(image),
      g.tensor(filter),
      window,
      g.bool() ? vector() : null,
      activation,
      0.2,
      activation === 5 ? vector() : null,
      g.bool(),
      g.bool() ? g.tensor(output) : null,
    ];
  },
  conv2dGradInput: (g) => {
    const { image, filter, output, window } = convCase(g);
    return [g.tensor(output), g.tensor(filter), image, window];
  },
  conv2dGradFilter: (g) => {
    const { image, filter, output, window } = convCase(g);
    return [g.tensor(image), g.tensor(output), filter, window];
  },
  doraNorm: (g) => {
    const { n, k, r } = doraSizes(g);
    return [g.tensor([n, k]), g.tensor([r, k]), g.tensor([n, r]), 0.5];
  },
  doraLinear: (g) => {
    const { m, n, k, r } = doraSizes(g);
    const scaled = g.bool();
    const vectors = scaled ? [g.f32([n]), g.f32([n])] : [null, null];
    return [
      g.tensor([m, k]),
      g.tensor([n, k]),
      g.tensor([r, k]),
      g.tensor([n, r]),
      ...vectors,
      g.maybe(() => g.tensor([n])),
      0.5,
    ];
  },
  doraGradHidden: (g) => {
    const { m, n, r } = doraSizes(g);
    return [g.tensor([m, n]), g.tensor([n, r]), g.maybe(() => g.f32([n])), 0.5];
  },
  doraGradInput: (g) => {
    const { m, n, k, r } = doraSizes(g);
    return [g.tensor([m, n]), g.f32([m, r]), g.tensor([n, k]), g.tensor([r, k]), g.maybe(() => g.f32([n]))];
  },
  doraGradLora: (g) => {
    const { m, n, k, r } = doraSizes(g);
    return [g.tensor([m, k]), g.tensor([m, n]), g.f32([m, r]), g.f32([m, r]), g.maybe(() => g.f32([n])), 0.5];
  },
  doraGradMagnitude: (g) => {
    const { m, n, k, r } = doraSizes(g);
    const [x, dy, y] = [g.tensor([m, k]), g.tensor([m, n]), g.tensor([m, n])];
    const vectors = [g.f32([n]), g.f32([n]), g.maybe(() => g.tensor([n]))];
    return [x, dy, y, g.f32([m, r]), g.tensor([n, k]), g.tensor([n, r]), ...vectors, 0.5];
  },
};
