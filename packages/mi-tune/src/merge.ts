/** Joins the shards of one sweep to the folder that the whole sweep would have left. */
import {
  canonicalJson,
  describe,
  EquipoiseError,
  invalid,
  type JobContext,
  Journal,
  ProgressCounter,
  prose,
  Run,
  type RunRecord,
} from '@equipoise/core';
import { exportScores } from './scores-table.js';
import {
  isBatch,
  JOURNAL,
  readSweep,
  requireComplete,
  rowsOf,
  type StoredBatch,
  type StoredSweep,
  SWEEP_COMMAND,
  type SweepRow,
  shardText,
  upgradeSweep,
  WHOLE,
  writePrompts,
} from './sweep-folder.js';

/**
 * Merges all shards of a sweep into `folder`, which then is the folder of a complete sweep.
 *
 * @throws EquipoiseError `conflict` for shards of different sweeps (with the differences), given twice or left out;
 * `corrupt` for a shard with missing or damaged batches
 */
export async function mergeSweeps(
  folder: string,
  shards: readonly string[],
  context: JobContext = {},
): Promise<SweepRow[]> {
  const sweeps: StoredSweep[] = [];
  for (const shard of shards) sweeps.push(await readSweep(shard));
  const [first] = sweeps;
  if (first === undefined) throw invalid('shards', 'at least one sweep folder', shards);
  for (const other of sweeps) requireSameSweep(first, other);
  requireAllShards(sweeps);
  for (const one of sweeps) requireComplete(one);
  const { record, prompts } =
    sweeps.find(({ record: { options } }) => options.sampler !== undefined) ?? first;
  const plan = { ...first.plan, shard: WHOLE };
  const run = await Run.open(folder, {
    command: SWEEP_COMMAND,
    options: { ...record.options, shard: shardText(WHOLE) },
    upgrade: (earlier) => upgradeSweep(earlier, record.options.sampler),
    seeds: Object.fromEntries(Object.entries(record.seeds).map(([name, seed]) => [name, BigInt(seed)])),
    inputs: record.inputs,
  });
  try {
    await writePrompts(run.folder, prompts);
    const journal = await Journal.open<StoredBatch>(run.path(JOURNAL), {
      accept: (key, value) => isBatch(plan, key, value),
    });
    const merged: StoredBatch[] = [];
    try {
      const all = sweeps.flatMap(({ batches }) => [...batches]).sort(([a], [b]) => a - b);
      const progress = new ProgressCounter('mi merge', context, {
        total: all.reduce((sum, [, { rows }]) => sum + rows.length, 0),
        unit: 'pair',
      });
      for (const [b, batch] of all) {
        merged.push(await journal.once(String(b), async () => batch));
        progress.advance(batch.rows.length);
      }
    } finally {
      await journal.close();
    }
    await exportScores(run.folder);
    await run.finish();
    return rowsOf(merged, prompts, plan.scorers);
  } catch (error) {
    await run.fail(error);
    throw error;
  }
}

/** Settings and inputs of a sweep but for its shard. */
function identity({ options, inputs, seeds }: RunRecord): Record<string, unknown> {
  const { shard: _, ...settings } = options;
  return { ...settings, ...inputs, ...seeds };
}

function requireSameSweep(first: StoredSweep, other: StoredSweep): void {
  const [a, b] = [first, other].map(({ record }, i, both) =>
    identity(upgradeSweep(record, both[1 - i]?.record.options.sampler)),
  ) as [Record<string, unknown>, Record<string, unknown>];
  const differences = [...new Set([...Object.keys(a), ...Object.keys(b)])]
    .filter((key) => canonicalJson(a[key] ?? null) !== canonicalJson(b[key] ?? null))
    .map((key) => `  ${key}: ${describe(a[key])} and ${describe(b[key])}`);
  if (other.plan.shard.count !== first.plan.shard.count)
    differences.push(`  shards: ${first.plan.shard.count} and ${other.plan.shard.count}`);
  if (differences.length > 0)
    throw new EquipoiseError(
      'conflict',
      [`${first.folder} and ${other.folder}: expected shards of one sweep, got two`, ...differences].join(
        '\n',
      ),
    );
}

function requireAllShards(sweeps: readonly StoredSweep[]): void {
  const count = sweeps[0]?.plan.shard.count ?? 0;
  const given = new Map<number, string>();
  for (const { folder, plan } of sweeps) {
    const { index } = plan.shard;
    const earlier = given.get(index);
    if (earlier !== undefined)
      throw invalid(
        'shards',
        'each shard once',
        prose(`shard ${index + 1}/${count} in ${earlier} and ${folder}`),
        {
          code: 'conflict',
        },
      );
    given.set(index, folder);
  }
  const absent = Array.from({ length: count }, (_, i) => i).filter((i) => !given.has(i));
  if (absent.length > 0)
    throw invalid(
      'shards',
      `all ${count} shards`,
      prose(`none of ${absent.map((i) => `${i + 1}/${count}`).join(', ')}`),
      {
        code: 'conflict',
      },
    );
}
