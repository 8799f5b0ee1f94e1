/** Turns valid arguments into near-valid and absurd ones. */
import type { Handle, Storage } from '../binding.js';
import { discard, type Generator } from './generator.js';

/** Thrown by hostile getters; the addon must pass it on. */
export class HostileError extends Error {
  override readonly name = 'HostileError';
}

const NUMBERS = [
  0,
  -0,
  1,
  -1,
  2,
  3,
  0.5,
  -1.5,
  7,
  64,
  127,
  128,
  255,
  65_535,
  65_536,
  2 ** 24,
  2 ** 31 - 1,
  2 ** 31,
  -(2 ** 31),
  2 ** 32,
  2 ** 40,
];
const WILD = [
  2 ** 52,
  2 ** 53,
  -(2 ** 53),
  2 ** 63,
  2 ** 64,
  1e300,
  -1e300,
  5e-324,
  Number.NaN,
  Number.POSITIVE_INFINITY,
  Number.NEGATIVE_INFINITY,
];
const STORAGES: readonly Storage[] = ['f32', 'bf16', 'i32', 'bool'];

/** One argument changed a little: another rank, size, storage or number, or a tensor that was disposed. */
export function mutateOne(g: Generator, args: unknown[]): void {
  if (args.length === 0) {
    args.push(absurd(g, args));
    return;
  }
  const i = g.int(0, args.length - 1);
  args[i] = mutate(g, args[i], args);
}

function mutate(g: Generator, value: unknown, args: readonly unknown[]): unknown {
  if (g.known.has(value)) return mutateTensor(g, value as Handle);
  if (typeof value === 'number')
    return g.chance(0.3) ? value + g.pick([-1, 1]) : g.pick(g.chance(0.5) ? NUMBERS : WILD);
  if (typeof value === 'boolean') return g.pick([!value, 0, 1, null, 'true']);
  if (Array.isArray(value)) return mutateList(g, value, args);
  if (value === null) return g.tensor(g.anyShape());
  return absurd(g, args);
}

function mutateTensor(g: Generator, handle: Handle): unknown {
  const tensor = g.known.get(handle);
  if (!tensor) return handle;
  const { shape, storage } = tensor;
  switch (g.int(0, 6)) {
    case 0:
      return g.tensor(shape, g.pick(STORAGES));
    case 1: // One axis longer or shorter.
      return g.tensor(
        shape.map((d, i) => (i === shape.length - 1 ? Math.max(0, d + g.pick([-1, 1])) : d)),
        storage,
      );
    case 2: // An axis missing, or one too many.
      return g.tensor(g.bool() ? shape.slice(1) : [1, ...shape].slice(0, 6), storage);
    case 3:
      return g.tensor(
        shape.map((d, i) => (i === 0 ? 0 : d)),
        storage,
      );
    case 4:
      return g.tensor([...shape].reverse(), storage);
    case 5: {
      const gone = g.tensor(shape, storage);
      g.native.release(gone);
      return gone;
    }
    default:
      return g.tensor(g.anyShape(), g.pick(STORAGES));
  }
}

function mutateList(g: Generator, list: readonly unknown[], args: readonly unknown[]): unknown {
  if (hostile.has(list)) return absurd(g, args); // copying it would throw, or take gigabytes
  const copy = [...list];
  switch (g.int(0, 5)) {
    case 0:
      copy.pop();
      return copy;
    case 1:
      copy.push(list.length > 0 ? g.pick(list) : 1);
      return copy;
    case 2:
      return [];
    case 3:
      return Array.from({ length: g.int(7, 40) }, () => g.pick(list.length > 0 ? list : [1]));
    case 4:
      return hostileList(g, list, args);
    default:
      if (copy.length === 0) return [g.pick(WILD)];
      copy[g.int(0, copy.length - 1)] = mutate(g, g.pick(list), args);
      return copy;
  }
}

const hostile = new WeakSet<object>();

/** Lists that lie about their length, have holes, or run code while they are read. */
function hostileList(g: Generator, list: readonly unknown[], args: readonly unknown[]): unknown {
  const copy = [...list];
  hostile.add(copy);
  switch (g.int(0, 4)) {
    case 0:
      copy.length = g.pick([list.length + 3, 2 ** 24, 2 ** 32 - 1]);
      return copy;
    case 1:
      Object.defineProperty(copy, 0, {
        get() {
          throw new HostileError('a getter threw');
        },
      });
      return copy;
    case 2: // Releases the other arguments after they were checked.
      Object.defineProperty(copy, Math.max(0, copy.length - 1), {
        get() {
          for (const other of args) if (g.known.has(other)) discard(g.native, other as Handle);
          return list.at(-1) ?? 1;
        },
      });
      return copy;
    case 3:
      return new Proxy(copy, {});
    default:
      return Object.assign(copy, { length: copy.length }, { extra: 1 });
  }
}

/** Any number of arguments replaced by things nobody should pass, or the wrong number of arguments. */
export function makeAbsurd(g: Generator, args: unknown[]): unknown[] {
  const changed = args.map((arg) => (g.chance(0.5) ? absurd(g, args) : arg));
  if (g.chance(0.2)) changed.splice(g.int(0, changed.length), changed.length);
  if (g.chance(0.1)) changed.push(absurd(g, args), absurd(g, args));
  return changed;
}

function detached(): Float32Array {
  const array = new Float32Array(16);
  structuredClone(array.buffer, { transfer: [array.buffer] });
  return array;
}

/** A view that is longer than what is left of its buffer. */
function shrunk(): Uint8Array {
  const Resizable = ArrayBuffer as unknown as new (
    bytes: number,
    options: { maxByteLength: number },
  ) => ArrayBuffer & { resize?(bytes: number): void };
  const buffer = new Resizable(64, { maxByteLength: 128 });
  const view = new Uint8Array(buffer, 0, 64);
  buffer.resize?.(8);
  return view;
}

const ABSURD: readonly ((g: Generator, args: readonly unknown[]) => unknown)[] = [
  () => undefined,
  () => null,
  () => ({}),
  () => [],
  () => '',
  () => 'f32',
  () => 'x'.repeat(100_000),
  () => Symbol('s'),
  () => 10n ** 30n,
  () => () => 1,
  () => new Date(0),
  () => new Map(),
  () => /x/,
  () => Promise.resolve(1),
  () => true,
  () => detached(),
  () => shrunk(),
  () => new Float32Array(new SharedArrayBuffer(64)),
  () => new DataView(new ArrayBuffer(8)),
  () => new Float64Array(4),
  () => new BigInt64Array(2),
  () => new ArrayBuffer(8),
  () => Object.freeze({ shape: [1], dtype: 'float32' }),
  () => ({ valueOf: () => 1, toString: () => '1', [Symbol.toPrimitive]: () => 1 }),
  (g) => g.pick(WILD),
  (g) => g.pick(NUMBERS),
  (g) => g.tensor(g.anyShape()),
  (g) => g.any(g.anyShape()),
  (g) => Object.create(g.tensor([2, 3])) as unknown,
  (g) => new Proxy(g.tensor([2, 3]) as object, {}),
  (g) => Object.setPrototypeOf({}, g.tensor([1]) as object) as unknown,
  (g) => Array.from({ length: g.int(0, 12) }, () => g.pick(NUMBERS)),
  (g) => [2 ** 32, 2 ** 32, g.int(1, 3)],
  () => [0, 2 ** 53 - 1, 2 ** 53 - 1],
  (g) => [g.tensor([1]), null, 3],
  (g, args) => hostileList(g, [1, 2], args),
  (g) => {
    const gone = g.tensor([4]);
    g.native.release(gone);
    return gone;
  },
];

function absurd(g: Generator, args: readonly unknown[]): unknown {
  return g.pick(ABSURD)(g, args);
}
