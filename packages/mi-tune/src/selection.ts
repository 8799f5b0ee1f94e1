/** Which candidates of a prompt become examples: by mutual information, by chance, or by another score. */
import { invalid, PhiloxSequence, prose, streamId } from '@equipoise/core';
import { rowsByPrompt, type SweepRow } from './sweep-folder.js';

export type Selection =
  /** Highest MI: MI-TUNE. */
  | { readonly by: 'mi' }
  /** By chance: what tuning on one's own pictures does without choosing. */
  | { readonly by: 'random'; readonly seed: number }
  /** Highest of a score that the sweep recorded, for instance CLIPScore. */
  | { readonly by: 'score'; readonly name: string };

/**
 * k candidates of each prompt, best first; ties go to the lower candidate number.
 *
 * @param among only candidates below this number take part; default: all
 */
export function selectCandidates(
  rows: readonly SweepRow[],
  k: number,
  selection: Selection = { by: 'mi' },
  among = Number.POSITIVE_INFINITY,
): SweepRow[] {
  const value = scoreBy(selection);
  const byPrompt = rowsByPrompt(rows.filter(({ candidate }) => candidate < among));
  const chosen: SweepRow[] = [];
  for (const [promptIndex, own] of [...byPrompt].sort(([a], [b]) => a - b)) {
    if (k > own.length || !Number.isInteger(k) || k < 1)
      throw invalid('top', `a whole number from 1 to the ${own.length} candidates of a prompt`, k);
    own.sort((a, b) => a.candidate - b.candidate);
    if (selection.by === 'random') {
      const random = new PhiloxSequence(selection.seed, streamId('mi-tune', 'random choice', promptIndex));
      chosen.push(...random.shuffle(own).slice(0, k));
    } else {
      own.sort((a, b) => value(b) - value(a) || a.candidate - b.candidate);
      chosen.push(...own.slice(0, k));
    }
  }
  return chosen;
}

function scoreBy(selection: Selection): (row: SweepRow) => number {
  if (selection.by !== 'score') return ({ mi }) => mi;
  return ({ scores }) => {
    const value = scores[selection.name];
    if (value !== undefined) return value;
    const known = Object.keys(scores).join(', ') || 'none';
    throw invalid('selection', `a score of the sweep (${known})`, prose(selection.name));
  };
}

/** The k best candidates of each prompt by MI. */
export function topCandidates(rows: readonly SweepRow[], k: number): SweepRow[] {
  return selectCandidates(rows, k);
}
