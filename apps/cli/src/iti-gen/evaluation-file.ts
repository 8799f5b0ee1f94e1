/** What `iti-gen evaluate` writes and `iti-gen report` reads. */
import fs from 'node:fs/promises';
import path from 'node:path';
import { EquipoiseError, type JsonValue, parseJson, writeJsonAtomic } from '@equipoise/core';
import { type Evaluation, finiteJson, type LabelledFile } from '@equipoise/iti-gen';

const NAME = 'evaluation.json';
const FORMAT = 1;

export interface EvaluationRecord {
  readonly format: number;
  readonly name: string;
  readonly judge: string;
  readonly evaluation: Evaluation;
  /** Relative to the folder of the file. */
  readonly images: readonly LabelledFile[];
}

export async function writeEvaluation(
  folder: string,
  record: Omit<EvaluationRecord, 'format'>,
): Promise<string> {
  const file = path.join(folder, NAME);
  const base = path.resolve(folder);
  const images = record.images.map((image) => ({
    ...image,
    file: path.relative(base, path.resolve(image.file)),
  }));
  await writeJsonAtomic(file, finiteJson({ format: FORMAT, ...record, images }) as JsonValue);
  return file;
}

/** The record of a folder with its images' paths made whole. */
export async function readEvaluation(folder: string): Promise<EvaluationRecord> {
  const file = path.join(folder, NAME);
  const text = await fs.readFile(file, 'utf8').catch((cause: unknown) => {
    throw new EquipoiseError('missing', `${file}: cannot be read; was the evaluation interrupted?`, {
      cause,
    });
  });
  const record = parseJson(text, file) as EvaluationRecord | null;
  if (
    record?.format !== FORMAT ||
    !Array.isArray(record.images) ||
    !Array.isArray(record.evaluation?.balance)
  )
    throw new EquipoiseError('corrupt', `${file}: not what iti-gen evaluate writes`);
  return {
    ...record,
    images: record.images.map((own) => ({ ...own, file: path.resolve(folder, own.file) })),
  };
}
