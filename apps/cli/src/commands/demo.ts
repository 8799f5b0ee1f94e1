import { ENGINES } from '@equipoise/backend';
import { defineOptions, option, z } from '@equipoise/core';
import { defineCommand } from '../command.js';
import { type DemoResult, runDemo } from '../demo/run.js';

const options = defineOptions('demo', {
  engine: option(z.enum(ENGINES).default('equipoise-cpu'), 'Which engine to show.'),
  seed: option(z.int().min(0).default(1), 'Seed of the inputs.'),
  json: option(z.boolean().default(false), 'Print the results as JSON.'),
});

export const demo = defineCommand({
  options,
  description:
    "Runs the operations that text-to-image models are made of, forward and backward, on an engine and on TensorFlow.js's own plain JavaScript, and shows how far the results differ and how long both took.\n\nThe exit status is 1 when a result is wrong.",
  examples: ['equipoise demo', 'equipoise demo --engine tensorflow'],
  async run({ engine, seed, json }, context) {
    const results = await runDemo(engine, seed, context);
    if (json) context.print(JSON.stringify({ engine, seed, results }, null, 2));
    else for (const line of render(engine, results)) context.print(line);
    return results.every((result) => result.problem === null) ? 0 : 1;
  },
});

function render(engine: string, results: readonly DemoResult[]): string[] {
  const width = Math.max(...results.map((result) => result.name.length));
  const lines = [`${engine} beside TensorFlow.js's plain JavaScript`, ''];
  for (const { name, error, milliseconds, referenceMilliseconds, problem } of results) {
    if (milliseconds === null || referenceMilliseconds === null || error === null) {
      lines.push(`  ${name.padEnd(width)}  FAILED: ${problem ?? ''}`);
      continue;
    }
    const speed = `${milliseconds.toFixed(2).padStart(8)} ms, ${(referenceMilliseconds / milliseconds).toFixed(0).padStart(5)} times as fast`;
    lines.push(
      `  ${name.padEnd(width)}  error ${error.toExponential(1)}  ${speed}${problem === null ? '' : `  FAILED: ${problem}`}`,
    );
  }
  const failed = results.filter((result) => result.problem !== null).length;
  lines.push(
    '',
    failed === 0 ? `All ${results.length} results agree.` : `${failed} of ${results.length} failed.`,
  );
  return lines;
}
