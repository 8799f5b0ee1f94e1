/** Stopping on request: at a safe point, or a few seconds later all the same. */
import { constants } from 'node:os';
import { EquipoiseError } from '@equipoise/core';

/** Time for a job to reach a safe point. Those who send SIGTERM often send SIGKILL ten seconds later. */
const GRACE_MS = 5000;

/** Why a command's signal was aborted, and the exit status that says so: 130 for SIGINT, 143 for SIGTERM. */
export class StopRequest extends EquipoiseError {
  readonly status: number;

  constructor(signal: 'SIGINT' | 'SIGTERM') {
    super('cancelled', `stopped by ${signal}`);
    this.status = 128 + constants.signals[signal];
  }
}

/**
 * Gives what `work` comes to. Once the signal is aborted, work that does not stop within the grace is left behind: a step
 * of a large model may take minutes, and what was done before it is on the disk, whole, because a job may be killed at
 * any instant.
 *
 * @param onRequest told when the signal is aborted
 */
export function untilStopped<T>(
  work: Promise<T>,
  signal: AbortSignal,
  onRequest: () => void,
  graceMs: number = GRACE_MS,
): Promise<T> {
  return new Promise((resolve, reject) => {
    let timer: NodeJS.Timeout | undefined;
    const request = (): void => {
      onRequest();
      timer = setTimeout(
        () => reject(new EquipoiseError('cancelled', 'stopped', { cause: signal.reason })),
        graceMs,
      );
    };
    if (signal.aborted) request();
    else signal.addEventListener('abort', request, { once: true });
    const ended = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', request);
    };
    work.finally(ended).then(resolve, reject);
  });
}
