/** Interleaved rounds: everybody takes a short turn in each, so that other load and clock changes meet all alike. */
import { setImmediate } from 'node:timers/promises';
import type { Ceilings } from '@equipoise/backend';
import { median } from './statistics.js';

/** Gives the fastest call, in seconds, among those made in about `budget` seconds. */
export type Contestant = (budget: number) => Promise<number>;

export interface Round {
  readonly ceilings: Ceilings;
  /** Seconds by contestant. */
  readonly seconds: Readonly<Record<string, number>>;
}

export interface RoundsOptions {
  readonly rounds: number;
  /** Seconds of each turn. */
  readonly budget: number;
}

/** Rounds whose multiply-add ceiling fell below this share of the best one were throttled. */
const THROTTLED = 0.8;

/**
 * Plays rounds until `rounds` of them ran at full clock, at most three times as many. Throttled ones are discarded.
 *
 * @param ceilings measured at the start of each round: the yardstick of the clock
 */
export async function playRounds(
  contestants: Readonly<Record<string, Contestant>>,
  ceilings: () => Ceilings,
  { rounds, budget }: RoundsOptions,
): Promise<{ kept: Round[]; discarded: number }> {
  const played: Round[] = [];
  let kept: Round[] = [];
  while (kept.length < rounds && played.length < 3 * rounds) {
    // Contestants may never leave the thread: signals and progress have to get through between rounds.
    await setImmediate();
    const before = ceilings();
    const seconds: Record<string, number> = {};
    for (const [name, contestant] of Object.entries(contestants)) seconds[name] = await contestant(budget);
    played.push({ ceilings: before, seconds });
    const best = Math.max(...played.map((round) => round.ceilings.flops));
    kept = played.filter((round) => round.ceilings.flops >= THROTTLED * best);
  }
  return { kept, discarded: played.length - kept.length };
}

/** Calls `once` for about `budget` seconds, at least once; the fastest call counts. */
export function timed(once: () => void | Promise<void>): Contestant {
  return async (budget) => {
    let best = Number.POSITIVE_INFINITY;
    const end = performance.now() + budget * 1e3;
    do {
      const start = performance.now();
      await once();
      best = Math.min(best, (performance.now() - start) / 1e3);
    } while (performance.now() < end);
    return best;
  };
}

/** Median seconds of one contestant. */
export function medianSeconds(rounds: readonly Round[], name: string): number {
  return median(rounds.map((round) => round.seconds[name] as number));
}

/** Median of the rounds' own ratios of one contestant's seconds to another's. */
export function medianRatio(rounds: readonly Round[], name: string, other: string): number {
  return median(rounds.map(({ seconds }) => (seconds[name] as number) / (seconds[other] as number)));
}
