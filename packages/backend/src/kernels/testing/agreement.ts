/** Runs a call on the CPU's addon and on another device's, with equal inputs, and compares what comes out. */
import { type Handle, loadAddon, type NativeAddon, type Storage } from '@equipoise/native';
import { randomWords, sizeOf, testEngine } from '@equipoise/testing';
import type tap from 'tap';

const kind = testEngine().replace('equipoise-', '') as 'cpu' | 'cuda' | 'simt';
const reference = loadAddon('cpu');
/** The device that EQUIPOISE_TEST_ENGINE names. */
export const tested: NativeAddon = loadAddon(kind);
/** For tests that make no sense where that is the CPU. */
export const otherDevice = {
  skip: kind === 'cpu' && 'the CPU agrees with itself: set EQUIPOISE_TEST_ENGINE',
};

/** Reproducible whole numbers in [0, 2^32) whose low bits are good too. */
function integers(seed: number): () => number {
  const next = randomWords(seed);
  return () => {
    const word = next();
    return (word ^ (word >>> 15)) >>> 0;
  };
}

/** Makes the tensors of one case: the same ones for either device. */
export class Maker {
  readonly #next = integers(11);
  constructor(readonly native: NativeAddon) {}
  #upload(storage: Storage, shape: number[], value: () => number): Handle {
    const n = sizeOf(shape);
    const source = storage === 'bf16' ? 'f32' : storage;
    const values =
      source === 'f32' ? new Float32Array(n) : source === 'i32' ? new Int32Array(n) : new Uint8Array(n);
    for (let i = 0; i < n; i++) values[i] = value();
    return this.native.upload(values, source, shape, storage, false);
  }
  /** Sixteenths in [-8, 8), which bf16 holds exactly; now and then zeros of both signs. */
  floats(storage: 'f32' | 'bf16', ...shape: number[]): Handle {
    return this.#upload(storage, shape, () => {
      const bits = this.#next();
      return bits % 97 === 0 ? -0 : ((bits >>> 8) % 256) / 16 - 8;
    });
  }
  /** Sparse NaN and infinities among them. */
  wild(storage: 'f32' | 'bf16', ...shape: number[]): Handle {
    const special = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
    return this.#upload(storage, shape, () => {
      const bits = this.#next();
      return bits % 61 === 0 ? (special[(bits >>> 8) % 3] as number) : ((bits >>> 8) % 256) / 16 - 8;
    });
  }
  unit(...shape: number[]): Handle {
    return this.#upload('f32', shape, () => (this.#next() >>> 8) / 2 ** 24);
  }
  ints(low: number, high: number, ...shape: number[]): Handle {
    return this.#upload('i32', shape, () => low + (this.#next() % (high - low)));
  }
  bools(...shape: number[]): Handle {
    return this.#upload('bool', shape, () => this.#next() & 1);
  }
  of(storage: Storage, ...shape: number[]): Handle {
    if (storage === 'i32') return this.ints(-1000, 1000, ...shape);
    return storage === 'bool' ? this.bools(...shape) : this.floats(storage, ...shape);
  }
}

export interface Agreement {
  name: string;
  run: (native: NativeAddon, make: Maker) => Handle | Handle[];
  /** Difference allowed, as a part of the largest result; 0 demands the same bits. */
  relative?: number;
}

const outcome = (native: NativeAddon, run: Agreement['run']) =>
  [run(native, new Maker(native))].flat().map((y) => ({
    storage: native.info(y).storage,
    shape: String(native.info(y).shape),
    values: native.readSync(y),
  }));

function disagreement({ run, relative = 0 }: Agreement): string | undefined {
  const want = outcome(reference, run);
  const got = outcome(tested, run);
  for (const [k, expected] of want.entries()) {
    const actual = got[k];
    if (actual?.storage !== expected.storage || actual.shape !== expected.shape)
      return `result ${k} is ${actual?.storage} [${actual?.shape}], not ${expected.storage} [${expected.shape}]`;
    let largest = 0;
    for (const e of expected.values) if (Number.isFinite(e)) largest = Math.max(largest, Math.abs(e));
    const at = expected.values.findIndex((e, i) => {
      const a = actual.values[i] as number;
      return !Object.is(a, e) && !(Math.abs(a - e) <= relative * largest);
    });
    if (at >= 0) return `result ${k}[${at}] is ${actual.values[at]}, not ${expected.values[at]}`;
  }
  return undefined;
}

/** Fails for every case on which the devices differ. */
export function agree(t: Pick<typeof tap, 'fail' | 'pass'>, cases: Agreement[]): void {
  for (const c of cases) {
    const off = disagreement(c);
    if (off) t.fail(`${c.name}: ${off}`);
  }
  t.pass(`${cases.length} cases`);
}
