/** Progress reports and cancellation, passed down through every long-running call. */
import { EquipoiseError } from './errors.js';

export interface ProgressEvent {
  /** What is being done: `'download unet/diffusion_pytorch_model.safetensors'`, `'denoise'`, … */
  readonly task: string;
  /** Units finished so far. */
  readonly done: number;
  /** Units in all, when known. */
  readonly total?: number;
  /** What a unit is: `'step'`, `'byte'`, `'image'`, … */
  readonly unit?: string;
  /** Numbers worth showing beside the bar, such as the loss. */
  readonly values?: Readonly<Record<string, number | string>>;
}

export type ProgressListener = (event: ProgressEvent) => void;

/** What a long-running function takes besides its own options. */
export interface JobContext {
  readonly onProgress?: ProgressListener | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Throws an EquipoiseError `cancelled` once `signal` is aborted; call it between units of work. */
export function throwIfCancelled(signal: AbortSignal | undefined, task?: string): void {
  if (!signal?.aborted) return;
  throw new EquipoiseError('cancelled', task === undefined ? 'cancelled' : `${task}: cancelled`, {
    cause: signal.reason,
  });
}

/** True for our own `cancelled` error and for the AbortError of Node's own functions. */
export function isCancelled(error: unknown): boolean {
  if (error instanceof EquipoiseError) return error.code === 'cancelled';
  return error instanceof Error && error.name === 'AbortError';
}

/** Counts units of one task, reports each and stops when the signal says so. */
export class ProgressCounter {
  #done = 0;

  constructor(
    readonly task: string,
    readonly context: JobContext,
    readonly options: { total?: number; unit?: string } = {},
  ) {
    throwIfCancelled(context.signal, task);
    this.#report();
  }

  get done(): number {
    return this.#done;
  }

  /** Adds `count` finished units, reports, then throws if the job was cancelled. */
  advance(count = 1, values?: ProgressEvent['values']): void {
    this.#done += count;
    this.#report(values);
    throwIfCancelled(this.context.signal, this.task);
  }

  #report(values?: ProgressEvent['values']): void {
    this.context.onProgress?.({
      task: this.task,
      done: this.#done,
      ...this.options,
      ...(values === undefined ? {} : { values }),
    });
  }
}
