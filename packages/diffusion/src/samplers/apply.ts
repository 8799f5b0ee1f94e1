import { invalid } from '@equipoise/core';
import type { SamplerStep } from './types.js';

/** What a sampler carries from step to step. */
export interface SamplerState {
  x: Float32Array;
  /** Model outputs kept so far, newest first. */
  history: Float32Array[];
  held?: Float32Array;
}

/** Latents of the chain before the first step. */
export function initialState(x: Float32Array): SamplerState {
  return { x, history: [] };
}

/**
 * One step on plain arrays: the definition that the tensor version is tested against.
 * @param output the model's output, as long as state.x
 * @param noise unit normal noise; required when the step draws it
 * @returns the state after the step; the given one is not changed
 */
export function applyStep(
  step: SamplerStep,
  state: SamplerState,
  output: Float32Array,
  noise?: Float32Array,
  historyLength = 3,
): SamplerState {
  if (step.drawsNoise && noise === undefined) throw invalid('noise', 'an array for this step', noise);
  const source = step.source === 'held' ? state.held : state.x;
  if (source === undefined) throw invalid('state.held', 'the latents of an earlier step', undefined);
  const outputs = [output, ...state.history];
  const x = new Float32Array(source.length);
  for (let i = 0; i < x.length; i++) {
    let combined = 0;
    for (const [k, weight] of step.weights.entries()) combined += weight * (outputs[k]?.[i] as number);
    let value = step.cx * (source[i] as number) + step.ce * combined + step.cn * (noise?.[i] ?? 0);
    if (step.clip) {
      const { cx, ce, weight, range } = step.clip;
      const image = cx * (source[i] as number) + ce * combined;
      value += weight * Math.min(Math.max(image, -range), range);
    }
    x[i] = value;
  }
  const history = step.remember ? outputs.slice(0, historyLength) : state.history;
  const held = step.hold ? state.x : undefined;
  return held === undefined ? { x, history } : { x, history, held };
}
