/** Prompt files: one prompt per line, in T2I-CompBench's layout. */
import fs from 'node:fs/promises';
import { EquipoiseError, invalid, prose } from '@equipoise/core';

export interface PromptList {
  /** Distinct prompts, in order of first appearance. */
  readonly prompts: readonly string[];
  /** How many lines repeated an earlier one. */
  readonly duplicates: number;
}

/** Reads lines: any line ending, a byte-order mark is dropped, text after a tab is another column, blanks are skipped. */
export function parsePrompts(text: string, source: string): PromptList {
  const lines = text
    .replace(/^\uFEFF/, '')
    .split(/\r\n|\r|\n/)
    .map((line) => (line.split('\t')[0] as string).trim())
    .filter((line) => line !== '');
  if (lines.length === 0) throw invalid(source, 'at least one prompt', prose('none'));
  const prompts = [...new Set(lines)];
  return { prompts, duplicates: lines.length - prompts.length };
}

/** @throws EquipoiseError `missing`, or `corrupt` when the file is not UTF-8 text */
export async function readPrompts(file: string): Promise<PromptList> {
  let bytes: Buffer;
  try {
    bytes = await fs.readFile(file);
  } catch (cause) {
    throw new EquipoiseError('missing', `${file}: expected a readable prompt file`, { cause });
  }
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw new EquipoiseError('corrupt', `${file}: expected UTF-8 text`, { cause });
  }
  return parsePrompts(text, file);
}
