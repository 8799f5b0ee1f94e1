/** Every function of the addon, with a maker of valid arguments. A function that is not listed here fails a test. */
import type { NativeAddon, Storage } from '../binding.js';
import { type Generator, sizeOf } from './generator.js';
import { layerTable } from './table-layers.js';
import { networkTable } from './table-networks.js';
import { tensorTable } from './table-tensors.js';

/** Makes arguments that the function must accept. */
export type FuzzTable = Readonly<Record<string, (g: Generator) => unknown[]>>;

const STORAGES: readonly Storage[] = ['f32', 'bf16', 'i32', 'bool'];

/** Kernels: the members of `native.ops`. */
export const opTable: FuzzTable = { ...tensorTable, ...networkTable, ...layerTable };

/** Everything else. `shutdown` ends the device, so a worker of its own tries it; see fuzz.test.ts. */
export const coreTable: FuzzTable = {
  upload: (g) => {
    const shape = g.anyShape();
    const size = sizeOf(shape);
    const [values, source, storage] = g.pick([
      [new Float32Array(size), 'f32', 'f32'],
      [new Float32Array(size), 'f32', 'bf16'],
      [new Uint16Array(size), 'bf16', 'f32'],
      [new Uint16Array(size), 'f16', 'bf16'],
      [new Int32Array(size), 'i32', 'i32'],
      [new Uint8Array(size), 'bool', 'bool'],
    ] as const);
    return [values, source, shape, storage, g.bool()];
  },
  uploadFilter: (g) => {
    const shape = Array.from({ length: 4 }, () => g.pick([0, 1, 2, 3, 8, 9, 33]));
    const size = shape.reduce((x, y) => x * y, 1);
    const [values, source] = g.pick([
      [new Float32Array(size), 'f32'],
      [new Uint16Array(size), 'bf16'],
      [new Uint16Array(size), 'f16'],
    ] as const);
    return [values, source, shape, g.pick(['f32', 'bf16'] as const), g.bool()];
  },
  release: (g) => [g.any(g.anyShape())],
  reshape: (g) => {
    const shape = g.anyShape();
    return [g.any(shape), [...shape].reverse()];
  },
  freeze: (g) => [g.any(g.anyShape())],
  read: (g) => [g.any(g.anyShape())],
  readSync: (g) => [g.any(g.anyShape())],
  info: (g) => [g.tensor(g.anyShape(), g.pick(STORAGES))],
  memory: () => [],
  setMemoryLimit: (g) => [g.int(1 << 20, 1 << 26)],
  trim: (g) => [g.int(0, 1 << 26)],
  synchronize: () => [],
  setProfiling: (g) => [g.bool()],
  takeProfile: () => [],
  describe: () => [],
  selectDevice: () => [0],
  devices: () => [],
  copy: (g) => [g.any(g.anyShape())],
  copyInto: (g) => {
    const [shape, storage] = [g.anyShape(), g.pick(STORAGES)];
    return [g.tensor(shape, storage, false), g.tensor(shape, storage)];
  },
  beginRecording: () => [],
  endRecording: () => [],
  abandonRecording: () => [],
  replay: () => [{}],
  releaseRecording: () => [{}],
};

/**
 * Functions that may refuse arguments in which nothing is wrong: a device is selected before anything else is done, and the
 * CPU records no launches.
 */
export const CONDITIONAL: ReadonlySet<string> = new Set([
  'selectDevice',
  'beginRecording',
  'endRecording',
  'replay',
  'releaseRecording',
]);

/** Functions of the addon without an entry, and entries without a function. */
export function unlisted(native: NativeAddon): string[] {
  const core = Object.keys(native).filter((name) => name !== 'ops' && name !== 'shutdown');
  const ops = Object.keys(native.ops);
  return [
    ...core.filter((name) => !Object.hasOwn(coreTable, name)).map((name) => `${name} has no entry`),
    ...ops.filter((name) => !Object.hasOwn(opTable, name)).map((name) => `ops.${name} has no entry`),
    ...Object.keys(coreTable)
      .filter((name) => !core.includes(name))
      .map((name) => `${name} does not exist`),
    ...Object.keys(opTable)
      .filter((name) => !ops.includes(name))
      .map((name) => `ops.${name} does not exist`),
  ];
}
