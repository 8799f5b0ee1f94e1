/** Commands that own a run folder. */
import { Run, type RunSpec } from '@equipoise/core';

/** Opens the folder, does the work, and records how it ended. */
export async function inRunFolder<T>(
  folder: string,
  spec: RunSpec,
  work: (run: Run) => Promise<T>,
): Promise<T> {
  const run = await Run.open(folder, spec);
  try {
    const result = await work(run);
    await run.finish();
    return result;
  } catch (error) {
    await run.fail(error);
    throw error;
  }
}
