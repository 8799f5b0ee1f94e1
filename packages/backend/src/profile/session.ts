/**
 * What a device does while something runs: every launch with its time, FLOPs and bytes, beside what the JavaScript
 * thread is at. All times are milliseconds of the monotonic clock, which the device's ranges are taken from too.
 */
import type { ProgressEvent } from '@equipoise/core';
import type { DeviceDescription, NativeAddon, ProfileRange } from '@equipoise/native';
import { currentDevice, type EquipoiseBackend } from '../backend.js';

/** Launches that differ in their times alone. */
export interface LaunchKind {
  readonly op: string;
  /** Shapes of the inputs: `[2,77,1024] [320,1024]`. */
  readonly shapes: string;
  readonly flops: number;
  /** Least bytes moved. */
  readonly bytes: number;
}

/** The launches in the order they ran, one column for each property. */
export interface Launches {
  readonly kinds: readonly LaunchKind[];
  /** Index into `kinds`. */
  readonly kind: readonly number[];
  readonly startMs: readonly number[];
  readonly endMs: readonly number[];
}

/** A stretch of the JavaScript thread's time that belongs to one task. */
export interface Slice {
  readonly task: string;
  readonly startMs: number;
  readonly endMs: number;
  /** Of it, milliseconds in which the JavaScript thread was not waiting. */
  readonly activeMs: number;
  /** Units of the task that were finished in it, and what they are. */
  readonly units: number;
  readonly unit?: string;
}

export interface DeviceProfile {
  readonly device: DeviceDescription;
  readonly startMs: number;
  readonly endMs: number;
  readonly launches: Launches;
  readonly slices: readonly Slice[];
  readonly memory: {
    /** Most device bytes in live tensors since the device was opened. */
    readonly peakBytes: number;
    /** Bytes in use now and then: at least ten times a second while JavaScript is not blocked. */
    readonly samples: ReadonlyArray<{ readonly ms: number; readonly inUse: number }>;
  };
}

const DRAIN_MS = 100;
/** What is done before the first task is named. */
const STARTING = 'start';

/** The clock of the device's ranges. */
export function clockMs(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}

let active: ProfileSession | undefined;

/** Whether a profile is being taken. */
export function profiling(): boolean {
  return active !== undefined;
}

/** Tells the running profile that another engine may be current. */
export function followEngine(): void {
  active?.follow();
}

/**
 * Collects from its making until {@link finish}; one at a time. The device is that of the engine of ours that is made
 * current (`useEngine`) meanwhile, or the current one after {@link follow}. Ranges are fetched ten times a second, at 24
 * bytes each.
 */
export class ProfileSession {
  readonly #startMs = clockMs();
  readonly #kinds = new Map<string, number>();
  readonly #launches = {
    kinds: [] as LaunchKind[],
    kind: [] as number[],
    startMs: [] as number[],
    endMs: [] as number[],
  };
  readonly #samples: Array<{ ms: number; inUse: number }> = [];
  readonly #slices: Slice[] = [];
  readonly #timer: NodeJS.Timeout;
  #device: EquipoiseBackend | undefined;
  #task = STARTING;
  #mark = { ms: this.#startMs, activeMs: performance.eventLoopUtilization().active };
  /** Units of each task that have been reported. */
  readonly #done = new Map<string, number>();

  /** @throws Error when another session runs */
  constructor() {
    if (active !== undefined) throw new Error('profile: another profile is being taken');
    active = this;
    this.#timer = setInterval(() => this.#drain(), DRAIN_MS);
    this.#timer.unref();
  }

  /** The device that is profiled, once there is one. */
  get native(): NativeAddon | undefined {
    return this.#device?.native;
  }

  /** Turns to the current engine's device. A profile is of one device: the first one met. */
  follow(): void {
    const device = currentDevice();
    if (device === undefined || this.#device !== undefined) return;
    this.#device = device;
    // What was queued before belongs to nobody here.
    device.native.synchronize();
    device.native.takeProfile();
    device.native.setProfiling(true);
  }

  /**
   * Takes note of progress. The time since the last note belongs to `task` if units of it are done, and to what went
   * before if it only begins.
   */
  progress({ task, done, unit }: ProgressEvent): void {
    const before = this.#done.get(task) ?? 0;
    // A task that is begun anew counts from zero.
    if (done === 0) this.#cut(this.#task, 0, undefined);
    else this.#cut(task, done >= before ? done - before : done, unit);
    this.#task = task;
    this.#done.set(task, done);
    this.#sample();
  }

  /**
   * Ends the collection when all that is queued has run.
   *
   * @returns undefined if there was no engine of ours
   * @throws the fault of a kernel that nobody has met yet by reading
   */
  finish(): DeviceProfile | undefined {
    try {
      this.#device?.native.synchronize();
      this.#cut(this.#task, 0, undefined);
      this.#drain();
    } finally {
      this.abandon();
    }
    if (this.#device === undefined) return undefined;
    const { native } = this.#device;
    return {
      device: native.describe(),
      startMs: this.#startMs,
      endMs: this.#mark.ms,
      launches: this.#launches,
      slices: this.#slices,
      memory: { peakBytes: native.memory().peak, samples: this.#samples },
    };
  }

  /** Ends the collection; what was collected is dropped. */
  abandon(): void {
    if (active !== this) return;
    active = undefined;
    clearInterval(this.#timer);
    this.#device?.native.setProfiling(false);
    this.#device?.native.takeProfile();
  }

  #cut(task: string, units: number, unit: string | undefined): void {
    const ms = clockMs();
    const activeMs = performance.eventLoopUtilization().active;
    this.#slices.push({
      task,
      startMs: this.#mark.ms,
      endMs: ms,
      activeMs: Math.min(ms - this.#mark.ms, activeMs - this.#mark.activeMs),
      units,
      ...(unit !== undefined && { unit }),
    });
    this.#mark = { ms, activeMs };
  }

  #sample(): void {
    if (this.#device !== undefined)
      this.#samples.push({ ms: clockMs(), inUse: this.#device.native.memory().inUse });
  }

  #drain(): void {
    if (this.#device === undefined) return;
    this.#sample();
    for (const range of this.#device.native.takeProfile()) this.#add(range);
  }

  #add({ op, shapes, flops, bytes, startMs, endMs }: ProfileRange): void {
    const key = `${op} ${shapes} ${flops} ${bytes}`;
    let index = this.#kinds.get(key);
    if (index === undefined) {
      index = this.#launches.kinds.push({ op, shapes, flops, bytes }) - 1;
      this.#kinds.set(key, index);
    }
    this.#launches.kind.push(index);
    this.#launches.startMs.push(startMs);
    this.#launches.endMs.push(endMs);
  }
}

/**
 * Runs `work` and tells what the current engine's device did meanwhile.
 *
 * @throws what `work` throws; Error when the current engine is none of ours, or another profile is being taken
 */
export async function profile<T>(work: () => T | Promise<T>): Promise<{ result: T; profile: DeviceProfile }> {
  const session = new ProfileSession();
  try {
    session.follow();
    const result = await work();
    const taken = session.finish();
    if (taken === undefined) throw new Error('profile: the current engine is not equipoise-cpu or -cuda');
    return { result, profile: taken };
  } finally {
    session.abandon();
  }
}
