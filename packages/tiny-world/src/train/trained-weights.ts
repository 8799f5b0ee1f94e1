/**
 * The weights a stage trains: variables with their AdamW moments and an exponential moving average, as one
 * thing that takes a step, and can be written down and read back exactly.
 */
import { type AdamWOptions, adamW } from '@equipoise/backend';
import { EquipoiseError, invalid } from '@equipoise/core';
import * as tf from '@tensorflow/tfjs-core';

/** A tensor as a checkpoint holds it. */
export interface HostTensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly values: Float32Array;
}

interface Entry {
  readonly name: string;
  readonly variable: tf.Variable;
  readonly m: tf.Variable;
  readonly v: tf.Variable;
  readonly average: tf.Variable;
}

/** Parts of an entry in a checkpoint, by the prefix of their names. */
const PARTS = ['variable', 'm', 'v', 'average'] as const;

export interface AverageOptions {
  /** Weight of the past per update. */
  readonly decay: number;
  /** Updates between two refreshes of the average; its decay is then `decay ** every`. */
  readonly every: number;
}

export class TrainedWeights {
  readonly #entries: readonly Entry[];

  /** @param variables the trainable weights by path, as `Model.setTrainable` returns them */
  constructor(
    variables: ReadonlyMap<string, tf.Variable>,
    readonly average: AverageOptions,
  ) {
    if (variables.size === 0) throw invalid('variables', 'at least one trainable weight', variables.size);
    this.#entries = [...variables].map(([name, variable]) => ({
      name,
      variable,
      m: tf.variable(tf.zerosLike(variable), false),
      v: tf.variable(tf.zerosLike(variable), false),
      average: tf.variable(variable, false),
    }));
  }

  get variables(): tf.Variable[] {
    return this.#entries.map((entry) => entry.variable);
  }

  /**
   * The gradient of `loss` and one AdamW update.
   *
   * @returns the loss and the gradients' global norm before clipping; the caller disposes of both
   * @throws EquipoiseError `internal` naming a weight that the loss does not depend on
   */
  step(loss: () => tf.Scalar, options: AdamWOptions): { loss: tf.Scalar; norm: tf.Scalar } {
    return tf.tidy(() => {
      const { value, grads } = tf.variableGrads(loss, this.variables);
      const parameters = this.#entries.map(({ name, variable, m, v }) => {
        const gradient = grads[variable.name];
        if (gradient === undefined)
          throw new EquipoiseError('internal', `${name}: the loss does not depend on it`);
        return { parameter: variable, gradient, m, v };
      });
      const norm = adamW(parameters, options);
      if (options.step % this.average.every === 0) this.#updateAverage(options.step);
      return { loss: value, norm };
    });
  }

  /** Early on the decay is lowered to (1 + n) / (10 + n), so that the average forgets the random start. */
  #updateAverage(step: number): void {
    const updates = step / this.average.every;
    const decay = Math.min(this.average.decay ** this.average.every, (1 + updates) / (10 + updates));
    for (const { variable, average } of this.#entries) {
      setValue(average, () => tf.add(tf.mul(average, decay), tf.mul(variable, 1 - decay)));
    }
  }

  /** Everything that {@link load} needs, read back from the device. */
  async save(): Promise<HostTensor[]> {
    const tensors: HostTensor[] = [];
    for (const part of PARTS) {
      for (const entry of this.#entries) {
        const tensor = entry[part];
        const values = (await tensor.data()) as Float32Array;
        tensors.push({ name: `${part}.${entry.name}`, shape: tensor.shape, values: values.slice() });
      }
    }
    return tensors;
  }

  /** Restores what {@link save} gave. `take` throws on a missing tensor or another shape. */
  load(take: (name: string, shape: readonly number[]) => Float32Array): void {
    for (const part of PARTS) {
      for (const entry of this.#entries) {
        const variable = entry[part];
        const values = take(`${part}.${entry.name}`, variable.shape);
        setValue(variable, () => tf.tensor(values, variable.shape, 'float32'));
      }
    }
  }

  /** Runs `work` with the averaged weights in place of the trained ones. */
  async withAverage<T>(work: () => Promise<T>): Promise<T> {
    const trained = this.#entries.map(({ variable }) => tf.tidy(() => tf.mul(variable, 1)));
    try {
      for (const { variable, average } of this.#entries) setValue(variable, () => tf.mul(average, 1));
      return await work();
    } finally {
      this.#entries.forEach(({ variable }, index) => {
        setValue(variable, () => trained[index] as tf.Tensor);
      });
    }
  }

  dispose(): void {
    for (const { m, v, average } of this.#entries) tf.dispose([m, v, average]);
  }
}

/** Gives a variable the value that `make` computes, without leaving a second handle on its memory. */
function setValue(variable: tf.Variable, make: () => tf.Tensor): void {
  const value = tf.tidy(make);
  variable.assign(value);
  value.dispose();
}
