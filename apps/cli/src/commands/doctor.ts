import { defineOptions, option, z } from '@equipoise/core';
import { defineCommand } from '../command.js';
import { diagnose } from '../doctor/diagnose.js';
import { renderDiagnosis } from '../doctor/render.js';

const options = defineOptions('doctor', {
  json: option(z.boolean().default(false), 'Print the report as JSON.'),
});

export const doctor = defineCommand({
  options,
  description:
    'Shows what is installed, which processor features the engine uses, which devices were compiled and why others were not, which optional libraries and engines were found, and the memory limits.\n\nThe exit status is 1 when the CPU engine cannot run.',
  examples: ['equipoise doctor', 'equipoise doctor --json > doctor.json'],
  async run({ json }, { print }) {
    const diagnosis = await diagnose();
    if (json) print(JSON.stringify(diagnosis, null, 2));
    else for (const line of renderDiagnosis(diagnosis)) print(line);
    return diagnosis.problems.length === 0 ? 0 : 1;
  },
});
