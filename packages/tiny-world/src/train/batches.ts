/** Which samples a step sees: every epoch is a fresh permutation, a function of (seed, name, epoch) alone. */
import { invalid, PhiloxSequence, streamId } from '@equipoise/core';

export class BatchOrder {
  #epoch = -1;
  #permutation: number[] = [];

  constructor(
    readonly seed: number,
    /** Keeps the orders of different stages apart. */
    readonly name: string,
    /** Samples to order. */
    readonly count: number,
    readonly batch: number,
  ) {
    if (!(batch >= 1 && batch <= count)) throw invalid('batch', `1 to ${count} samples`, batch);
  }

  /** Sample indices of update `step` (from 1). The last, incomplete batch of an epoch is left out. */
  at(step: number): number[] {
    const perEpoch = Math.floor(this.count / this.batch);
    const epoch = Math.floor((step - 1) / perEpoch);
    if (epoch !== this.#epoch) {
      const random = new PhiloxSequence(this.seed, streamId('tiny-world', 'order', this.name, epoch));
      this.#permutation = random.shuffle(Array.from({ length: this.count }, (_, index) => index));
      this.#epoch = epoch;
    }
    const start = ((step - 1) % perEpoch) * this.batch;
    return this.#permutation.slice(start, start + this.batch);
  }
}
