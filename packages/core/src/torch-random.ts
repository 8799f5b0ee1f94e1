/**
 * PyTorch's CPU generator: MT19937 (Matsumoto and Nishimura, 1998) and the transforms `torch.rand`,
 * `torch.randn`, `torch.randint` and `torch.randperm` put on top of it, so that a seed gives the same
 * picture here as in diffusers. Integers are equal exactly; floats within one float32 digit (2.4e-7, or 4.8e-7
 * for the one value in 20,000 whose magnitude is about 4), as torch's vectorised logarithm rounds differently.
 */
import { invalid } from './errors.js';
import { splitU64 } from './philox.js';

const N = 624;
const M = 397;
const TWO_32 = 0x1_0000_0000;
const TWO_MINUS_24 = 2 ** -24;
const TWO_MINUS_53 = 2 ** -53;
const TWO_PI_F32 = Math.fround(2 * Math.PI);
/** From this many elements on, torch draws normals in blocks instead of one by one. */
const BLOCK = 16;

/** The 32-bit Mersenne Twister, seeded as torch does: with the low 32 bits of the seed. */
export class Mt19937 {
  readonly #state = new Uint32Array(N);
  #next = N;

  constructor(seed: number | bigint) {
    let previous = splitU64('seed', seed)[0] >>> 0;
    this.#state[0] = previous;
    for (let i = 1; i < N; i++) {
      previous = (Math.imul(1812433253, previous ^ (previous >>> 30)) + i) >>> 0;
      this.#state[i] = previous;
    }
  }

  /** The next unsigned 32-bit word. */
  u32(): number {
    if (this.#next >= N) this.#refill();
    let y = this.#state[this.#next++] as number;
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    y ^= y >>> 18;
    return y >>> 0;
  }

  #refill(): void {
    const state = this.#state;
    for (let i = 0; i < N; i++) {
      const y = ((state[i] as number) & 0x80000000) | ((state[(i + 1) % N] as number) & 0x7fffffff);
      state[i] = (state[(i + M) % N] as number) ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
    }
    this.#next = 0;
  }
}

/** `torch.Generator('cpu').manual_seed(seed)`. Draws are consumed in order, as in torch. */
export class TorchGenerator {
  readonly #engine: Mt19937;
  /** The sine half of the last small draw's Box-Muller pair, which torch keeps across calls. */
  #cachedNormal: number | undefined;

  constructor(seed: number | bigint) {
    this.#engine = new Mt19937(seed);
  }

  /** `torch.rand(n)`: float32 uniforms in [0, 1). */
  rand(n: number): Float32Array {
    const out = new Float32Array(checkCount(n));
    for (let i = 0; i < n; i++) out[i] = this.#uniform24();
    return out;
  }

  /** `torch.randn(n)`, n = the product of the shape: float32 standard normals. */
  randn(n: number): Float32Array {
    const out = new Float32Array(checkCount(n));
    if (n < BLOCK) {
      for (let i = 0; i < n; i++) out[i] = this.#smallNormal();
      return out;
    }
    for (let i = 0; i < n; i++) out[i] = this.#uniform24();
    for (let start = 0; start + BLOCK <= n; start += BLOCK) transformBlock(out, start);
    if (n % BLOCK !== 0) {
      // torch redraws the last full block rather than transform a partial one.
      for (let i = n - BLOCK; i < n; i++) out[i] = this.#uniform24();
      transformBlock(out, n - BLOCK);
    }
    return out;
  }

  /** `torch.randint(low, high, (n,))`: integers in [low, high). Plain modulo, hence torch's slight bias. */
  randint(low: number, high: number, n: number): number[] {
    if (!Number.isSafeInteger(low)) throw invalid('low', 'a safe integer', low);
    const range = high - low;
    if (!Number.isSafeInteger(high) || range < 1 || !Number.isSafeInteger(range)) {
      throw invalid('high', `a safe integer above ${low}`, high);
    }
    return Array.from({ length: checkCount(n) }, () => {
      if (range < 2 ** 28) return low + (this.#engine.u32() % range);
      return low + Number(this.#u64() % BigInt(range));
    });
  }

  /** `torch.randperm(n)`: a permutation of 0 … n-1; n below 2^32. */
  randperm(n: number): Uint32Array {
    const out = Uint32Array.from({ length: checkCount(n) }, (_, i) => i);
    for (let i = 0; i < n - 1; i++) {
      const j = i + (this.#engine.u32() % (n - i));
      const value = out[i] as number;
      out[i] = out[j] as number;
      out[j] = value;
    }
    return out;
  }

  #uniform24(): number {
    return (this.#engine.u32() & 0xffffff) * TWO_MINUS_24;
  }

  #u64(): bigint {
    const high = BigInt(this.#engine.u32());
    return (high << 32n) | BigInt(this.#engine.u32());
  }

  #uniform53(): number {
    // Low 53 bits of (first << 32 | second), without bigints.
    const high = this.#engine.u32() & 0x1fffff;
    return (high * TWO_32 + this.#engine.u32()) * TWO_MINUS_53;
  }

  #smallNormal(): number {
    if (this.#cachedNormal !== undefined) {
      const value = this.#cachedNormal;
      this.#cachedNormal = undefined;
      return value;
    }
    const angle = 2 * Math.PI * this.#uniform53();
    const radius = Math.sqrt(-2 * Math.log1p(-this.#uniform53()));
    this.#cachedNormal = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  }
}

/** Box-Muller in place on 16 uniforms: the first eight give radii and become cosines, the rest sines. */
function transformBlock(data: Float32Array, start: number): void {
  for (let j = start; j < start + BLOCK / 2; j++) {
    // torch works in float32 here; rounding where it rounds keeps the difference at a float32 digit.
    const radius = Math.fround(Math.sqrt(-2 * Math.fround(Math.log(1 - (data[j] as number)))));
    const angle = Math.fround(TWO_PI_F32 * (data[j + BLOCK / 2] as number));
    data[j] = radius * Math.fround(Math.cos(angle));
    data[j + BLOCK / 2] = radius * Math.fround(Math.sin(angle));
  }
}

function checkCount(n: number): number {
  if (!Number.isInteger(n) || n < 0 || n >= TWO_32) throw invalid('n', 'an integer from 0 to 2^32 - 1', n);
  return n;
}
