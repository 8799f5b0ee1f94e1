/** How much there is to compute in something, counted by the device's profile. */
import { type Ceilings, profile } from '@equipoise/backend';

/** Launches that are alike: FLOPs and bytes of each, and how many there are. */
export interface WorkItem {
  readonly flops: number;
  readonly bytes: number;
  readonly launches: number;
}
export type Work = readonly WorkItem[];

/** Runs `once` and counts what the device does in it. */
export async function countWork(once: () => void | Promise<void>): Promise<Work> {
  const { profile: taken } = await profile(once);
  const counts = taken.launches.kinds.map(() => 0);
  for (const kind of taken.launches.kind) counts[kind] = (counts[kind] as number) + 1;
  return taken.launches.kinds.map(({ flops, bytes }, i) => ({ flops, bytes, launches: counts[i] as number }));
}

export function totalWork(work: Work): { flops: number; bytes: number } {
  let [flops, bytes] = [0, 0];
  for (const item of work) {
    flops += item.flops * item.launches;
    bytes += item.bytes * item.launches;
  }
  return { flops, bytes };
}

/** Seconds that the ceilings allow for launches that follow one another: of each, its FLOPs or its bytes. */
export function floorSeconds(work: Work, ceilings: Ceilings): number {
  return work.reduce(
    (sum, { flops, bytes, launches }) =>
      sum + launches * Math.max(flops / ceilings.flops, bytes / ceilings.bandwidth),
    0,
  );
}
