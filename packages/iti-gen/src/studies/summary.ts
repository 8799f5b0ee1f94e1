/** From cells to the numbers that tables show. */
import type { JobContext } from '@equipoise/core';
import type { Cell } from '@equipoise/report';
import type { CellResult, CellSpec, Laboratory, Learning } from '../laboratory.js';

/** What every study needs to know. */
export interface StudyOptions {
  readonly prompt: string;
  /** Sets of attributes; one name is a single attribute, several are learned together. */
  readonly sets: readonly (readonly string[])[];
  readonly seeds: readonly number[];
  /** Images of each cell. */
  readonly images: number;
  readonly learning: Omit<Learning, 'prompt'>;
}

/** Mean of a list, NaN when it is empty. */
export function meanOf(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** Divergence of the whole set of attributes: of the one attribute, or of all combined. */
export function overallKl({ evaluation }: CellResult): number {
  return evaluation.balance.at(-1)?.kl.value ?? Number.NaN;
}

/** The same method and attributes with several seeds. */
export interface SeedSummary {
  readonly seeds: number;
  readonly categories: number;
  readonly kl: number;
  /** Smallest and largest of the seeds. */
  readonly klRange: readonly [number, number];
  /** Mean over attributes of the share of images that show what was asked for; null where nothing was. */
  readonly accuracy: number | null;
  /** Distances by reference. */
  readonly distances: Readonly<Record<string, number>>;
  readonly similarity: number | null;
}

/** @param results one per seed */
export function summarize(results: readonly CellResult[]): SeedSummary {
  const kl = results.map(overallKl);
  const evaluations = results.map(({ evaluation }) => evaluation);
  const accuracies = evaluations.flatMap(({ accuracy }) => accuracy.map(({ share }) => share.value));
  const references = evaluations[0]?.distances.map(({ reference }) => reference) ?? [];
  const similarities = evaluations.flatMap(({ similarity }) => similarity?.cosine.value ?? []);
  return {
    seeds: results.length,
    categories: evaluations[0]?.balance.at(-1)?.categories.length ?? 0,
    kl: meanOf(kl),
    klRange: [Math.min(...kl), Math.max(...kl)],
    accuracy: accuracies.length === 0 ? null : meanOf(accuracies),
    distances: Object.fromEntries(
      references.map((name) => [
        name,
        meanOf(
          evaluations.map(
            ({ distances }) => distances.find((d) => d.reference === name)?.value ?? Number.NaN,
          ),
        ),
      ]),
    ),
    similarity: similarities.length === 0 ? null : meanOf(similarities),
  };
}

/** A summary as columns of a table. */
export function summaryColumns(summary: SeedSummary): Record<string, Cell> {
  return {
    KL: summary.kl,
    'KL min': summary.klRange[0],
    'KL max': summary.klRange[1],
    accuracy: summary.accuracy,
    ...Object.fromEntries(
      Object.entries(summary.distances).map(([name, value]) => [`FID to ${name}`, value]),
    ),
    'prompt similarity': summary.similarity,
  };
}

/** "skinTone x eyeglasses". */
export function setName(attributes: readonly string[]): string {
  return attributes.join(' x ');
}

/** A cell of a study with each of its seeds. */
export async function cellsOf(
  laboratory: Laboratory,
  options: StudyOptions,
  spec: Pick<CellSpec, 'method' | 'attributes'> & {
    readonly prompt?: string;
    readonly learning?: Partial<Learning>;
  },
  context: JobContext,
): Promise<CellResult[]> {
  const results: CellResult[] = [];
  for (const seed of options.seeds) {
    const { method, attributes, prompt = options.prompt } = spec;
    const learning = method === 'iti-gen' ? learningOf(options, spec.learning) : undefined;
    results.push(
      await laboratory.cell(
        {
          method,
          attributes,
          prompt,
          seed,
          images: options.images,
          ...(learning !== undefined && { learning }),
        },
        context,
      ),
    );
  }
  return results;
}

/** The study's way of learning, under its prompt, with some settings changed. */
export function learningOf(options: StudyOptions, changes: Partial<Learning> = {}): Learning {
  return { prompt: options.prompt, ...options.learning, ...changes };
}
