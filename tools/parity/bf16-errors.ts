/**
 * Runs the fixture models in bf16 on the native device and prints ||bf16 - f32|| / ||f32||, f32 being the reference
 * library's output: a JSON object by model and output. Run by bf16_errors.py:
 *
 *     node --import tsx --conditions=equipoise-source tools/parity/bf16-errors.ts
 */
import { setPrecision, useEngine } from '@equipoise/backend';
import { FIXTURE_RUNS } from '../../packages/models/src/testing/fixture-runs.js';
import { ModelFixture } from '../../packages/models/src/testing/model-fixture.js';

function relativeError(actual: Float32Array, expected: Float32Array): number {
  const squares = (values: Float32Array): number => values.reduce((sum, x) => sum + x * x, 0);
  return Math.sqrt(squares(actual.map((x, i) => x - (expected[i] as number))) / squares(expected));
}

await useEngine('equipoise-cpu');
setPrecision('bf16');
const errors: Record<string, Record<string, number>> = {};
for (const [name, run] of Object.entries(FIXTURE_RUNS)) {
  const fixture = new ModelFixture(name);
  errors[name] = {};
  for (const [key, output] of Object.entries(await run(fixture, fixture.state())))
    errors[name][key] = relativeError(await output.data<'float32'>(), fixture.numbers(key));
}
console.log(JSON.stringify(errors));
