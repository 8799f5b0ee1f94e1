/** Small JSON and YAML files. */
import fs from 'node:fs/promises';
import { EquipoiseError, invalid } from '@equipoise/core';
import { parse as parseYaml } from 'yaml';

/** A JSON or YAML file whose top level is a mapping. */
export async function readMapping(file: string): Promise<Record<string, unknown>> {
  let text: string;
  try {
    text = await fs.readFile(file, 'utf8');
  } catch (cause) {
    throw new EquipoiseError('missing', `${file}: cannot be read`, { cause });
  }
  let document: unknown;
  try {
    document = parseYaml(text);
  } catch (cause) {
    throw new EquipoiseError(
      'corrupt',
      `${file}: expected JSON or YAML, got ${(cause as Error).message.split('\n')[0]}`,
      { cause },
    );
  }
  if (!isMapping(document)) throw invalid(file, 'a mapping', document, { code: 'corrupt' });
  return document;
}

export function isMapping(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
