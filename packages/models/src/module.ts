/**
 * A tree of named layers. Names are torch's, so that a path such as
 * `down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0` finds the same layer here, in a
 * checkpoint and in an adapter file.
 */
import type * as tf from '@tensorflow/tfjs-core';
import type { Parameter } from './parameter.js';

export abstract class Module {
  readonly #children = new Map<string, Module>();
  readonly #parameters = new Map<string, Parameter>();

  /** Registers a sublayer under a name that may contain dots, as in `to_out.0`. */
  protected child<M extends Module>(name: string, module: M): M {
    this.#children.set(name, module);
    return module;
  }

  /** Registers `modules` under `name.0`, `name.1`, ... */
  protected children<M extends Module>(name: string, modules: readonly M[]): readonly M[] {
    for (const [index, module] of modules.entries()) this.child(`${name}.${index}`, module);
    return modules;
  }

  protected parameter(name: string, parameter: Parameter): Parameter {
    this.#parameters.set(name, parameter);
    return parameter;
  }

  /** This module and everything below it, each with its path; the root's path is empty. */
  *namedModules(prefix = ''): Generator<[string, Module]> {
    yield [prefix, this];
    for (const [name, module] of this.#children) yield* module.namedModules(join(prefix, name));
  }

  /** All weights with their paths, in order of registration. */
  *namedParameters(prefix = ''): Generator<[string, Parameter]> {
    for (const [path, module] of this.namedModules(prefix)) {
      for (const [name, parameter] of module.#parameters) yield [join(path, name), parameter];
    }
  }

  /** Variables of this module's own, besides its parameters: those of an adapter. */
  extraVariables(): tf.Variable[] {
    return [];
  }

  /** Every variable a gradient may be taken with respect to: trainable weights and adapters below here. */
  trainableVariables(): tf.Variable[] {
    const variables: tf.Variable[] = [];
    for (const [, module] of this.namedModules()) {
      for (const parameter of module.#parameters.values()) {
        if (parameter.variable !== null) variables.push(parameter.variable);
      }
      variables.push(...module.extraVariables());
    }
    return variables;
  }
}

function join(prefix: string, name: string): string {
  return prefix === '' ? name : `${prefix}.${name}`;
}
