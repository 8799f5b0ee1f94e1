/** What the processor can do at most, measured beside each case: multiply-adds on registers alone, and copying. */
import type { Handle, NativeAddon } from '@equipoise/native';

export interface Ceilings {
  /** Multiply-adds of the precision, in FLOP/s; f32's where the processor has none for bf16. */
  readonly flops: number;
  /** Bytes read and written per second by a copy far larger than the caches. */
  readonly bandwidth: number;
}

const COPY_ELEMENTS = 16 << 20;
const ROUNDS = 200_000;

/** Measures ceilings on a device; keeps a buffer for the copy until {@link dispose}. */
export class CeilingProbe {
  readonly #source: Handle;
  /** Whether the processor multiplies bf16. */
  readonly #half: boolean;

  constructor(readonly native: NativeAddon) {
    this.#source = native.upload(new Float32Array(COPY_ELEMENTS), 'f32', [COPY_ELEMENTS], 'f32', false);
    this.#half = this.#multiplies();
  }

  /** One short measurement of both. */
  measure(precision: 'f32' | 'bf16'): Ceilings {
    const half = precision === 'bf16' && this.#half;
    return {
      flops: this.#rate('flops', () => this.native.ops.ceilingMultiply(half, ROUNDS)),
      bandwidth: this.#rate('bytes', () => this.native.ops.ceilingCopy(this.#source)),
    };
  }

  dispose(): void {
    this.native.release(this.#source);
  }

  #multiplies(): boolean {
    try {
      this.native.release(this.native.ops.ceilingMultiply(true, 1));
      return true;
    } catch (error) {
      if (error instanceof RangeError) return false;
      throw error;
    }
  }

  /** Best of three, from the device's own clock. */
  #rate(unit: 'flops' | 'bytes', call: () => Handle): number {
    let best = 0;
    for (let i = 0; i < 3; i++) {
      this.native.setProfiling(true);
      this.native.release(call());
      this.native.synchronize();
      this.native.setProfiling(false);
      for (const range of this.native.takeProfile())
        best = Math.max(best, range[unit] / ((range.endMs - range.startMs) / 1e3));
    }
    return best;
  }
}
