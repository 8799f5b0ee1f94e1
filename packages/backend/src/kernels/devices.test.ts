/**
 * The CUDA sources against the CPU's kernels, call by call, at sizes that reach every way of computing that a CUDA
 * launcher knows: packets and single elements, tiles and words, parts of rows, streamed and full sorts. Runs where
 * EQUIPOISE_TEST_ENGINE names a device other than the CPU.
 */
import type { NativeAddon } from '@equipoise/native';
import t from 'tap';
import { agree, Maker, otherDevice, tested } from './testing/agreement.js';

const STORAGES = ['f32', 'bf16', 'i32', 'bool'] as const;
const FLOATS = ['f32', 'bf16'] as const;

t.test('movement in every element size', otherDevice, (t) => {
  /** [dims, strides, offset] of x [4 * 66 * 70]. */
  const views: Array<[number[], number[], number]> = [
    [[4, 66, 70], [4620, 70, 1], 0],
    [[66, 70, 4], [70, 1, 4620], 0],
    [[4, 70, 66], [4620, 1, 70], 0],
    [[70, 66, 4], [1, 70, 4620], 0],
    [[3, 33, 69], [4620, 1, 66], 7],
    [[2, 17, 64], [4620, 1, 70], 2],
    [[4, 64], [4620, 1], 3],
    [[4, 64], [4620, 1], 16],
    [[4, 48], [4608, 1], 8],
    [[100], [-1], 4000],
    [[40, 30], [0, 3], 5],
    [[30, 40], [3, 0], 5],
    [[2, 3, 2, 2, 2, 2, 2, 2, 2, 5], [1, 7, 2, 90, 4, 300, 8, 1000, 16, 33], 1],
    [[16, 8], [8, 1], 40],
    [[18480], [1], 0],
  ];
  agree(
    t,
    STORAGES.flatMap((storage) => [
      ...views.map(([dims, strides, offset], i) => ({
        name: `view ${i} ${storage}`,
        run: (native: NativeAddon, make: Maker) =>
          native.ops.transpose(make.of(storage, 4, 66, 70), dims, strides, offset),
      })),
      {
        name: `concat ${storage}`,
        run: (native: NativeAddon, make: Maker) =>
          native.ops.concat([make.of(storage, 6, 3, 8), make.of(storage, 6, 5, 8)], [3, 5], 6, 8),
      },
      {
        name: `pad ${storage}`,
        run: (native: NativeAddon, make: Maker) =>
          native.ops.pad(make.of(storage, 5, 9, 16), [5, 9, 16], [1, 0, 16], [0, 2, 3], 1),
      },
      { name: `diag ${storage}`, run: (native, make) => native.ops.diag(make.of(storage, 37)) },
    ]),
  );
  t.end();
});

t.test('casts, ranges, selections in every storage', otherDevice, (t) => {
  agree(t, [
    ...STORAGES.flatMap((from) =>
      STORAGES.flatMap((to) =>
        [1, 7, 8, 2049].map((n) => ({
          name: `cast ${from} ${to} ${n}`,
          run: (native: NativeAddon, make: Maker) =>
            native.ops.cast(from === 'f32' || from === 'bf16' ? make.wild(from, n) : make.of(from, n), to),
        })),
      ),
    ),
    ...STORAGES.flatMap((storage) => [
      { name: `range ${storage}`, run: (native: NativeAddon) => native.ops.range(storage, 3001, -7, 0.25) },
      { name: `fill ${storage}`, run: (native: NativeAddon) => native.ops.fill(storage, [77, 3], -0) },
      {
        name: `select ${storage}`,
        run: (native: NativeAddon, make: Maker) =>
          native.ops.select(make.bools(40, 1), make.of(storage, 16), make.of(storage, 40, 16)),
      },
      {
        name: `add ${storage} and i32`,
        run: (native: NativeAddon, make: Maker) =>
          native.ops.add(make.of(storage, 3, 24), make.ints(-9, 9, 5, 1, 24)),
      },
    ]),
  ]);
  t.end();
});

t.test('reductions: lanes, rows in parts, columns in parts', otherDevice, (t) => {
  const shapes: Array<[number, number, number]> = [
    [1, 0, 3],
    [5, 1, 1],
    [300, 7, 1],
    [70, 64, 1],
    [9, 2048, 1],
    [3, 2049, 1],
    [2, 40_000, 1],
    [1, 100_003, 1],
    [1, 5000, 8],
    [1, 5000, 3],
    [4, 300, 40],
    [2, 33, 257],
    [1, 9, 1030],
  ];
  agree(
    t,
    STORAGES.flatMap((storage) =>
      shapes.flatMap((shape) => {
        const float = storage === 'f32' || storage === 'bf16';
        const make = (m: Maker) => (float ? m.wild(storage, ...shape) : m.of(storage, ...shape));
        const ops = ['max', 'min', 'argMax', 'argMin', 'sum', 'mean'] as const;
        const logical = storage === 'bool' ? (['all', 'any'] as const) : [];
        return [...ops, ...logical].map((op) => ({
          name: `${op} ${storage} [${shape}]`,
          run: (native: NativeAddon, m: Maker) =>
            native.ops[op](op === 'sum' || op === 'mean' ? m.of(storage, ...shape) : make(m), ...shape),
          relative: op === 'sum' || op === 'mean' ? 1e-7 : 0,
        }));
      }),
    ),
  );
  t.end();
});

t.test('scans: lines, parts, columns; both directions', otherDevice, (t) => {
  const shapes: Array<[number, number, number]> = [
    [3, 20, 5],
    [2, 1000, 3],
    [1, 20_001, 1],
    [2, 9000, 2],
    [9000, 33, 1],
  ];
  agree(
    t,
    STORAGES.flatMap((storage) =>
      shapes.flatMap((shape) =>
        [0, 1, 2, 3].flatMap((flags) => [
          {
            name: `cumsum ${storage} [${shape}] ${flags}`,
            run: (native: NativeAddon, make: Maker) =>
              native.ops.cumsum(make.of(storage, ...shape), ...shape, (flags & 1) > 0, (flags & 2) > 0),
            relative: 1e-7,
          },
          {
            name: `cumprod ${storage} [${shape}] ${flags}`,
            run: (native: NativeAddon, make: Maker) =>
              native.ops.cumprod(make.bools(...shape), ...shape, (flags & 1) > 0, (flags & 2) > 0),
          },
        ]),
      ),
    ),
  );
  t.end();
});

t.test('softmax and the greatest elements', otherDevice, (t) => {
  agree(t, [
    ...FLOATS.flatMap((storage) =>
      [1, 5, 64, 77, 1000, 1024, 1025, 4096].flatMap((columns) => [
        {
          name: `softmax ${storage} ${columns}`,
          run: (native: NativeAddon, make: Maker) =>
            native.ops.softmax(make.floats(storage, 11, columns), columns),
          relative: 1e-6,
        },
        {
          name: `softmax of NaN and infinities ${storage} ${columns}`,
          run: (native: NativeAddon, make: Maker) =>
            native.ops.softmax(make.wild(storage, 40, columns), columns),
          relative: 1e-6,
        },
      ]),
    ),
    ...STORAGES.flatMap((storage) =>
      (
        [
          [3, 1, 1],
          [4, 100, 100],
          [3, 2048, 2000],
          [2, 2049, 1],
          [2, 10_000, 1024],
          [2, 5000, 1025],
          [1, 9000, 9000],
        ] as const
      ).map(([rows, columns, k]) => ({
        name: `topK ${storage} ${rows} ${columns} ${k}`,
        run: (native: NativeAddon, make: Maker) =>
          native.ops.topK(
            storage === 'f32' || storage === 'bf16'
              ? make.wild(storage, rows, columns)
              : make.of(storage, rows, columns),
            columns,
            k,
          ),
      })),
    ),
  ]);
  t.end();
});

t.test('gathers, scatters with repeated rows, counts', otherDevice, (t) => {
  agree(t, [
    ...STORAGES.flatMap((storage) =>
      [1, 3, 8, 16, 300].flatMap((inner) => [
        {
          name: `gather ${storage} ${inner}`,
          run: (native: NativeAddon, make: Maker) =>
            native.ops.gather(make.of(storage, 2, 3, 9, inner), make.ints(0, 9, 2, 70), 2, 3, 9, inner),
        },
        {
          name: `gatherNd ${storage} ${inner}`,
          run: (native: NativeAddon, make: Maker) =>
            native.ops.gatherNd(make.of(storage, 6, 5, inner), make.ints(0, 5, 800, 2), [6, 5], inner, 800),
        },
        {
          name: `scatterNd ${storage} ${inner}`,
          run: (native: NativeAddon, make: Maker) =>
            native.ops.scatterNd(
              null,
              make.ints(0, 5, 2100, 2),
              make.of(storage, 2100, inner),
              [6, 5],
              inner,
              2100,
            ),
        },
        {
          name: `tensorScatterUpdate ${storage} ${inner}`,
          run: (native: NativeAddon, make: Maker) =>
            native.ops.scatterNd(
              make.of(storage, 40, inner),
              make.ints(0, 40, 1500, 1),
              make.of(storage, 1500, inner),
              [40],
              inner,
              1500,
            ),
        },
        {
          name: `segmentSum ${storage} ${inner}`,
          run: (native: NativeAddon, make: Maker) =>
            native.ops.segmentSum(make.of(storage, 1300, inner), make.ints(-1, 21, 1300), inner, 20),
        },
      ]),
    ),
    ...STORAGES.map((storage) => ({
      name: `oneHot ${storage}`,
      run: (native: NativeAddon, make: Maker) =>
        native.ops.oneHot(make.ints(-2, 9, 500), storage, 7, 3.5, -1.5),
    })),
    ...[5, 9000].flatMap((bins) =>
      [false, true].flatMap((binary) =>
        [false, true].map((weights) => ({
          name: `bincount ${bins} ${binary} ${weights}`,
          run: (native: NativeAddon, make: Maker) =>
            native.ops.bincount(
              make.ints(0, bins + 3, 3, 5000),
              weights ? make.floats('f32', 3, 5000) : null,
              3,
              bins,
              binary,
            ),
        })),
      ),
    ),
    {
      name: 'multinomial',
      run: (native, make) => native.ops.multinomial(make.unit(4, 700), make.unit(4, 900), 4),
    },
  ]);
  t.end();
});

t.test('windows and images of eight channels and of others', otherDevice, (t) => {
  const windows = [
    [2, 9, 7, 0, 5, 4, 3, 2, 2, 2, 1, 1, 1, 0],
    [1, 8, 8, 0, 6, 6, 2, 2, 1, 1, 2, 2, 0, 0],
    [1, 4, 4, 0, 6, 6, 3, 3, 1, 1, 1, 1, 2, 2],
  ];
  const sizes = [
    [2, 5, 7, 10, 14],
    [1, 8, 6, 3, 9],
    [1, 1, 1, 3, 2],
    [1, 33, 4, 7, 31],
  ] as const;
  agree(
    t,
    FLOATS.flatMap((storage) =>
      [3, 16].flatMap((channels) => [
        ...windows.flatMap((window) => {
          const [batch = 0, inHeight = 0, inWidth = 0, , outHeight = 0, outWidth = 0] = window;
          const w = window.with(3, channels);
          const x = (make: Maker) => make.floats(storage, batch, inHeight, inWidth, channels);
          const dy = (make: Maker) => make.floats(storage, batch, outHeight, outWidth, channels);
          const name = `${storage} [${w}]`;
          return [
            { name: `maxPool ${name}`, run: (n: NativeAddon, m: Maker) => n.ops.maxPool(x(m), w) },
            {
              name: `avgPool ${name}`,
              run: (n: NativeAddon, m: Maker) => n.ops.avgPool(x(m), w),
              relative: 1e-6,
            },
            {
              name: `maxPoolGrad ${name}`,
              run: (n: NativeAddon, m: Maker) => n.ops.maxPoolGrad(x(m), dy(m), w),
            },
            {
              name: `avgPoolGrad ${name}`,
              run: (n: NativeAddon, m: Maker) => n.ops.avgPoolGrad(null, dy(m), w),
              relative: 1e-2,
            },
          ];
        }),
        ...sizes.flatMap(([b, ih, iw, oh, ow]) =>
          Array.from({ length: 12 }, (_, flags) => {
            const [bilinear, backward] = [(flags & 1) > 0, (flags & 2) > 0];
            const [corners, half] = [flags >> 2 === 1, flags >> 2 === 2];
            return {
              name: `resize ${storage} ${b} ${ih} ${iw} ${oh} ${ow} ${channels} ${flags}`,
              run: (native: NativeAddon, make: Maker) =>
                native.ops.resize(
                  make.floats(storage, b, backward ? oh : ih, backward ? ow : iw, channels),
                  bilinear,
                  backward,
                  corners,
                  half,
                  [b, ih, iw, oh, ow, channels],
                ),
              relative: storage === 'f32' ? 1e-6 : 1e-2,
            };
          }),
        ),
      ]),
    ),
  );
  t.end();
});

t.test('random numbers', otherDevice, (t) => {
  agree(
    t,
    [0, 1, 4, 7].flatMap((offset) =>
      [1, 3, 4, 5000].flatMap((n) =>
        [false, true].map((normal) => ({
          name: `philox ${offset} ${n} ${normal}`,
          run: (native: NativeAddon) => native.ops.philox([n], 1, 2, 3, 4, 2 ** 34 + offset, normal),
          relative: normal ? 1e-7 : 0,
        })),
      ),
    ),
  );
  t.end();
});

t.test('faults are told by the next read', otherDevice, async (t) => {
  const make = new Maker(tested);
  const y = tested.ops.gatherNd(make.floats('f32', 4, 3), make.ints(4, 5, 2, 1), [4], 3, 2);
  await t.rejects(tested.read(y), {
    message: /GatherNd \[4,3\] x \[2,1\]: indices\[[01]\] is outside the tensor/,
  });
  const z = tested.ops.bincount(make.ints(-3, -2, 4), null, 1, 5, false);
  await t.rejects(tested.read(z), { message: /Input x must be non-negative, x\[[0-3]\] is -3/ });
  t.same([...(await tested.read(make.ints(7, 8, 1)))], [7]);
});
