/**
 * How far measures of alignment agree, as in the paper's choice of a measure: of each prompt's candidates the ones at
 * given ranks by MI (the 1st, 25th and 50th of 50) are ranked by every measure, and Kendall's tau compares the rankings.
 */
import { invalid, prose } from '@equipoise/core';
import { type Estimate, kendallTauB, meanWithInterval } from '@equipoise/metrics';
import { rowsByPrompt, type SweepRow } from './sweep-folder.js';

export const PAPER_RANKS = [1, 25, 50] as const;

export interface Agreement {
  readonly first: string;
  readonly second: string;
  /** Mean of Kendall's tau-b over the prompts where it is defined; undefined where it is for none. */
  readonly tau: Estimate | undefined;
  /** Prompts where a measure gives all picked candidates the same score. */
  readonly tied: number;
}

const measured = (row: SweepRow, measure: string): number => {
  const value = measure === 'mi' ? row.mi : row.scores[measure];
  if (value !== undefined) return value;
  throw invalid('measure', `one of mi, ${Object.keys(row.scores).join(', ')}`, prose(measure));
};

/** Candidates of each prompt at the given ranks by MI, rank 1 the highest. */
export function rankedPicks(rows: readonly SweepRow[], ranks: readonly number[] = PAPER_RANKS): SweepRow[][] {
  if (new Set(ranks).size !== ranks.length) throw invalid('ranks', 'each rank once', ranks);
  return [...rowsByPrompt(rows).values()].map((own) => {
    const sorted = [...own].sort((a, b) => b.mi - a.mi || a.candidate - b.candidate);
    return ranks.map((rank) => {
      const row = sorted[rank - 1];
      if (row === undefined || !Number.isInteger(rank))
        throw invalid('ranks', `whole numbers from 1 to the ${own.length} candidates of a prompt`, rank);
      return row;
    });
  });
}

/**
 * Agreement of every pair of measures over the picked candidates of each prompt.
 *
 * @throws EquipoiseError `invalid` for fewer than two measures
 */
export function agreementOf(
  picks: readonly (readonly SweepRow[])[],
  measures: readonly string[],
  seed = 0,
): Agreement[] {
  if (measures.length < 2) throw invalid('measures', 'at least two to compare', measures);
  return measures.flatMap((first, i) =>
    measures.slice(i + 1).map((second) => {
      const taus = picks.map((rows) =>
        kendallTauB(
          rows.map((row) => measured(row, first)),
          rows.map((row) => measured(row, second)),
        ),
      );
      const defined = taus.filter((tau) => !Number.isNaN(tau));
      return {
        first,
        second,
        tau: defined.length === 0 ? undefined : meanWithInterval(defined, { seed }),
        tied: taus.length - defined.length,
      };
    }),
  );
}
