/** Progress on standard error: one line redrawn in place on a terminal, a line every ten seconds elsewhere. */
import type { ProgressEvent, ProgressListener } from './progress.js';

const REDRAW_MS = 100;
const LOG_MS = 10_000;

export interface ProgressLines {
  readonly onProgress: ProgressListener;
  /** Leaves the terminal on a fresh line. */
  end(): void;
}

export function createProgress(
  note: (line: string) => void,
  stream: NodeJS.WriteStream = process.stderr,
): ProgressLines {
  let last = 0;
  let drawn = false;
  let task: string | undefined;
  const clear = (): void => {
    if (drawn) stream.write('\r\u001b[K');
    drawn = false;
  };
  const onProgress = (event: ProgressEvent): void => {
    const now = performance.now();
    const complete = event.total !== undefined && event.done >= event.total;
    const due = now - last >= (stream.isTTY ? REDRAW_MS : LOG_MS);
    if (!due && !complete && event.task === task) return;
    last = now;
    task = event.task;
    const line = describeProgress(event);
    if (!stream.isTTY) {
      note(line);
      return;
    }
    stream.write(`\r${line.slice(0, (stream.columns ?? 80) - 1)}\u001b[K`);
    drawn = true;
    if (complete) {
      stream.write('\n');
      drawn = false;
    }
  };
  return { onProgress, end: clear };
}

/** `denoise: 12/50 steps (24%) loss=0.1234`. */
function describeProgress(event: ProgressEvent): string {
  const { done, total, unit, values } = event;
  const count = total === undefined ? `${done}` : `${done}/${total}`;
  const share = total === undefined || total === 0 ? '' : ` (${Math.floor((100 * done) / total)}%)`;
  const pairs = Object.entries(values ?? {}).map(
    ([key, value]) => ` ${key}=${typeof value === 'number' ? Number(value.toPrecision(4)) : value}`,
  );
  return `${event.task}: ${count}${unit === undefined ? '' : ` ${unit}s`}${share}${pairs.join('')}`;
}
