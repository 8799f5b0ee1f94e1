/**
 * Edit distance (insertions, deletions, substitutions and swaps of neighbours each cost 1; optimal string
 * alignment). Stops early and returns `limit + 1` once the distance must exceed `limit`.
 */
export function editDistance(a: string, b: string, limit = Number.POSITIVE_INFINITY): number {
  if (Math.abs(a.length - b.length) > limit) return limit + 1;
  let beforePrevious = new Int32Array(b.length + 1);
  let previous = Int32Array.from({ length: b.length + 1 }, (_, j) => j);
  let current = new Int32Array(b.length + 1);
  for (let i = 1; i <= a.length; i++) {
    current[0] = i;
    let rowBest = i;
    for (let j = 1; j <= b.length; j++) {
      const same = a.charCodeAt(i - 1) === b.charCodeAt(j - 1);
      let cost = Math.min(
        (previous[j] as number) + 1,
        (current[j - 1] as number) + 1,
        (previous[j - 1] as number) + (same ? 0 : 1),
      );
      const swapped =
        i > 1 &&
        j > 1 &&
        a.charCodeAt(i - 1) === b.charCodeAt(j - 2) &&
        a.charCodeAt(i - 2) === b.charCodeAt(j - 1);
      if (swapped) cost = Math.min(cost, (beforePrevious[j - 2] as number) + 1);
      current[j] = cost;
      if (cost < rowBest) rowBest = cost;
    }
    if (rowBest > limit) return limit + 1;
    [beforePrevious, previous, current] = [previous, current, beforePrevious];
  }
  return previous[b.length] as number;
}

/**
 * The candidate closest to `name` by edit distance, ignoring case first; undefined when none is within
 * `limit` edits (default: a third of the name's length, at least 2).
 */
export function nearest(name: string, candidates: Iterable<string>, limit?: number): string | undefined {
  let bound = limit ?? Math.max(2, Math.floor(name.length / 3));
  let best: string | undefined;
  const lower = name.toLowerCase();
  for (const candidate of candidates) {
    if (candidate === name) return candidate;
    const distance = candidate.toLowerCase() === lower ? 0.5 : editDistance(name, candidate, bound);
    if (distance < bound || (distance === bound && best === undefined)) {
      best = candidate;
      bound = distance;
    }
  }
  return best;
}
