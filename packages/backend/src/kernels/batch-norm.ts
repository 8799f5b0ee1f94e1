import { defineNative } from './define.js';

/** y = (x - mean) / sqrt(variance + epsilon) * scale + offset; the statistics broadcast over x. */
defineNative('FusedBatchNorm', (call) => {
  const [x, mean, variance] = [call.input('x'), call.input('mean'), call.input('variance')];
  const [scale, offset] = [call.optional('scale'), call.optional('offset')];
  const { ops } = call;
  return call.temporaries((keep) => {
    const epsilon = keep(ops.fill('f32', [], call.attr<number | undefined>('varianceEpsilon') ?? 1e-3));
    const inverse = keep(ops.rsqrt(keep(ops.add(call.handle(variance), epsilon))));
    const factor = scale ? keep(ops.multiply(inverse, call.handle(scale))) : inverse;
    const centred = keep(ops.sub(call.handle(x), call.handle(mean)));
    const scaled = ops.multiply(centred, factor);
    return call.output(offset ? ops.add(keep(scaled), call.handle(offset)) : scaled, x.shape, x.dtype);
  });
});
