/** What the command-line entries share: progress lines and errors out. */
import { formatError, type ProgressEvent, type ProgressListener } from '@equipoise/core';

const INTERVAL_MS = 5_000;

/** Prints at most one line per task every five seconds, and the last one. */
export function progressPrinter(): ProgressListener {
  let [task, printed, started, first] = ['', 0, 0, 0];
  return (event: ProgressEvent) => {
    const now = Date.now();
    if (event.task !== task) [task, printed, started, first] = [event.task, 0, now, event.done];
    if (now - printed < INTERVAL_MS && event.done !== event.total) return;
    printed = now;
    const rate = (event.done - first) / Math.max(1e-3, (now - started) / 1000);
    const values = Object.entries(event.values ?? {}).map(
      ([name, value]) => `${name} ${typeof value === 'number' ? Number(value.toPrecision(4)) : value}`,
    );
    console.error(
      [
        `${event.task} ${event.done}/${event.total ?? '?'} ${event.unit ?? ''}`,
        ...values,
        `${rate.toPrecision(3)}/s`,
      ].join('  '),
    );
  };
}

/** Runs a command's body; errors are printed with their hints and set the exit code. */
export async function runMain(body: () => Promise<void>): Promise<void> {
  try {
    await body();
  } catch (error) {
    console.error(formatError(error));
    process.exitCode = 1;
  }
}
