/** Runs the demonstration: each case on the engine and on TensorFlow.js's own JavaScript, compared and timed. */
import { type Engine, useEngine } from '@equipoise/backend';
import { type JobContext, throwIfCancelled } from '@equipoise/core';
import * as tf from '@tensorflow/tfjs-core';
import { type DemoCase, demoCases, demoInputs } from './cases.js';

export interface DemoResult {
  readonly name: string;
  /** ||engine - reference|| / ||reference||; null when the case could not run. */
  readonly error: number | null;
  readonly milliseconds: number | null;
  readonly referenceMilliseconds: number | null;
  /** Why it failed; null when the error is within the limit. */
  readonly problem: string | null;
}

/** Largest relative error (Euclidean norm) that float32 arithmetic in another order explains. */
const LIMIT = 1e-4;
const REPEATS = 5;

/** Runs every case on `engine`. Leaves `engine` current. */
export async function runDemo(
  engine: Engine,
  seed: number,
  { onProgress, signal }: JobContext,
): Promise<DemoResult[]> {
  tf.enableProdMode(); // no advice to install another engine
  const results: DemoResult[] = [];
  for (const [i, demo] of demoCases.entries()) {
    throwIfCancelled(signal, 'demo');
    onProgress?.({ task: 'demo', done: i, total: demoCases.length, unit: 'case' });
    results.push(await runCase(demo, engine, seed));
  }
  onProgress?.({ task: 'demo', done: demoCases.length, total: demoCases.length, unit: 'case' });
  await useEngine(engine);
  return results;
}

async function runCase(demo: DemoCase, engine: Engine, seed: number): Promise<DemoResult> {
  const reference = await measure(demo, 'cpu', seed, 1);
  try {
    const own = await measure(demo, engine, seed, REPEATS);
    const error = relativeError(own.values, reference.values);
    // Written so that NaN is a failure as well.
    const problem =
      error <= LIMIT ? null : `relative error ${error.toExponential(1)}, expected at most ${LIMIT}`;
    return {
      name: demo.name,
      error,
      milliseconds: own.milliseconds,
      referenceMilliseconds: reference.milliseconds,
      problem,
    };
  } catch (failure) {
    const problem = (failure as Error).message;
    return {
      name: demo.name,
      error: null,
      milliseconds: null,
      referenceMilliseconds: reference.milliseconds,
      problem,
    };
  }
}

async function measure(
  demo: DemoCase,
  engine: Engine,
  seed: number,
  repeats: number,
): Promise<{ values: Float32Array; milliseconds: number }> {
  await useEngine(engine);
  const inputs = demoInputs(demo, seed);
  let values = new Float32Array();
  let milliseconds = Number.POSITIVE_INFINITY;
  try {
    for (let i = 0; i < repeats; i++) {
      const start = performance.now();
      const output = tf.tidy(() => demo.compute(...inputs));
      values = new Float32Array(await output.data<'float32'>());
      milliseconds = Math.min(milliseconds, performance.now() - start);
      output.dispose();
    }
  } finally {
    tf.dispose(inputs);
  }
  return { values, milliseconds };
}

function relativeError(actual: Float32Array, expected: Float32Array): number {
  if (actual.length !== expected.length) return Number.NaN;
  let error = 0;
  let norm = 0;
  for (let i = 0; i < expected.length; i++) {
    error += ((actual[i] as number) - (expected[i] as number)) ** 2;
    norm += (expected[i] as number) ** 2;
  }
  return Math.sqrt(error / norm);
}
