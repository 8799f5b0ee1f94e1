/** Progress reports and cancellation, passed down through every long-running call. */
import { availableParallelism } from 'node:os';
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

/**
 * The live numbers of a long job: units per second, time left, and how busy the processor is with it (100 % is all of
 * the cores the process may use). Units that were found done do not count towards the rate.
 */
export class Pace {
  readonly #started = performance.now();
  readonly #cpu = process.cpuUsage();
  #done = 0;

  /** @param todo units that have to be done now */
  constructor(
    readonly todo: number,
    readonly unit: string,
  ) {}

  /** Counts `count` more units and gives the values to show beside the bar. */
  advance(count: number): Record<string, string> {
    this.#done += count;
    const seconds = (performance.now() - this.#started) / 1000;
    const rate = this.#done / seconds;
    const { user, system } = process.cpuUsage(this.#cpu);
    const busy = (user + system) / 1e6 / seconds / availableParallelism();
    return {
      rate: `${rate.toPrecision(3)} ${this.unit}s/s`,
      left: formatDuration((this.todo - this.#done) / rate),
      cpu: `${Math.round(100 * busy)}%`,
    };
  }
}

/** `45s`, `12m03s`, `5h07m`, `3d04h`. */
export function formatDuration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  const two = (value: number): string => String(Math.floor(value)).padStart(2, '0');
  if (whole < 60) return `${whole}s`;
  if (whole < 3600) return `${Math.floor(whole / 60)}m${two(whole % 60)}s`;
  if (whole < 86_400) return `${Math.floor(whole / 3600)}h${two((whole % 3600) / 60)}m`;
  return `${Math.floor(whole / 86_400)}d${two((whole % 86_400) / 3600)}h`;
}
