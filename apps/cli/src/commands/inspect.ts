import { stat } from 'node:fs/promises';
import { defineOptions, option, z } from '@equipoise/core';
import { resolveModel } from '@equipoise/weights';
import { defineCommand } from '../command.js';
import { inspectFile } from './inspect-file.js';
import { inspectFolder } from './inspect-folder.js';
import { type Inspection, type InspectOptions, renderInspection } from './inspect-report.js';

const options = defineOptions('inspect', {
  path: option(z.string(), 'Safetensors or PNG file, or the folder of a pipeline, model or adapter.', {
    placeholder: 'path',
  }),
  variant: option(z.string().optional(), 'Look at this weights variant, such as fp16.'),
  tensors: option(z.boolean().default(false), 'List every tensor.'),
  values: option(z.boolean().default(false), 'Read all numbers and report NaN and infinities.'),
  json: option(z.boolean().default(false), 'Print the report as JSON.'),
});

async function inspectPath(path: string, given: InspectOptions): Promise<Inspection> {
  const local = await resolveModel(path, {
    signal: given.signal,
    ...(given.variant !== undefined && { variant: given.variant }),
  });
  return (await stat(local)).isDirectory() ? inspectFolder(local, given) : inspectFile(local, given);
}

export const inspect = defineCommand({
  options,
  positionals: ['path'],
  description:
    'Says what a file or folder is: architecture, tensors, number types, sizes, the ranks of an adapter, the settings of a generated image; and what is wrong with it: tensors that are missing, unexpected or of another shape, settings that are not supported, damaged files. Only headers and configs are read unless --values is given.\n\nThe exit status is 1 when there is a problem.',
  examples: [
    'equipoise inspect sd/',
    'equipoise inspect style.safetensors --json',
    'equipoise inspect images/00000-a-red-cat-00000.png',
  ],
  async run({ path, json, ...given }, { print, signal }) {
    const report = await inspectPath(path, { ...given, signal });
    if (json) print(JSON.stringify(report, null, 2));
    else for (const line of renderInspection(report)) print(line);
    return report.problems.length === 0 ? 0 : 1;
  },
});
