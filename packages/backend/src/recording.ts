/**
 * Recording what a function queues, to run it again with one call: a CUDA graph. A launch from JavaScript costs 8 to
 * 16 us; a network of a thousand of them is bound by that at small batches.
 */
import type { Handle, RecordingHandle } from '@equipoise/native';
import * as tf from '@tensorflow/tfjs-core';
import { currentDevice, type EquipoiseBackend } from './backend.js';
import { profiling } from './profile/session.js';

type TensorFunction = (...inputs: tf.Tensor[]) => tf.Tensor[];

/** A function whose launches are recorded. Shapes and storage of its inputs are those it was recorded with. */
export interface Recorded {
  /** True on devices that record; elsewhere the function itself runs. */
  readonly replays: boolean;
  /** Fresh tensors, as the function would give them. */
  run(...inputs: tf.Tensor[]): tf.Tensor[];
  dispose(): void;
}

interface Slot {
  handle: Handle;
  shape: number[];
  dtype: tf.DataType;
}

class Replay implements Recorded {
  readonly replays = true;

  constructor(
    private readonly device: EquipoiseBackend,
    private readonly recording: RecordingHandle,
    private readonly inputs: readonly tf.Tensor[],
    private readonly outputs: readonly tf.Tensor[],
  ) {}

  run(...inputs: tf.Tensor[]): tf.Tensor[] {
    const { native } = this.device;
    if (inputs.length !== this.inputs.length)
      throw new RangeError(`recorded function: expected ${this.inputs.length} inputs, got ${inputs.length}`);
    const slots = this.inputs.map((own, i) => ({ own, given: inputs[i] as tf.Tensor }));
    for (const [i, { own, given }] of slots.entries())
      if (given.dtype !== own.dtype || !tf.util.arraysEqual(given.shape, own.shape))
        throw new RangeError(
          `recorded function: input ${i}: expected ${own.dtype} [${own.shape}], got ${given.dtype} [${given.shape}]`,
        );
    for (const { own, given } of slots)
      native.copyInto(this.device.handle(own, 'Recorded'), this.device.handle(given, 'Recorded'));
    native.replay(this.recording);
    return this.outputs.map((own) => {
      const copy: Slot = { ...own, handle: native.copy(this.device.handle(own, 'Recorded')) };
      return tf.engine().makeTensorFromTensorInfo(this.device.register(copy.handle, own.shape, own.dtype));
    });
  }

  dispose(): void {
    this.device.native.releaseRecording(this.recording);
    tf.dispose([...this.inputs, ...this.outputs]);
  }
}

/** The current device, where it records. */
function recordingDevice(): EquipoiseBackend | undefined {
  const device = currentDevice();
  return device === undefined || device.kind === 'cpu' ? undefined : device;
}

/** Inputs of a recording's own, at the same addresses in every run, stored as those given. */
function ownInputs(device: EquipoiseBackend, inputs: readonly tf.Tensor[]): tf.Tensor[] {
  return inputs.map((x) => {
    const handle = device.native.copy(device.handle(x, 'Record'));
    return tf.keep(tf.engine().makeTensorFromTensorInfo(device.register(handle, x.shape, x.dtype)));
  });
}

/** Runs `compute` once more, recorded. Takes `own` over; frees it when anything fails. */
function capture(device: EquipoiseBackend, own: tf.Tensor[], compute: TensorFunction): Replay {
  const { native } = device;
  try {
    native.beginRecording();
    const outputs = tf.tidy(() => compute(...own)).map((y) => tf.keep(y));
    return new Replay(device, native.endRecording(), own, outputs);
  } catch (error) {
    native.abandonRecording();
    tf.dispose(own);
    throw error;
  }
}

/**
 * Records `compute` for inputs like `inputs`. It runs twice: once as ever, so that everything it makes once is made
 * and every choice by measurement is taken, and once to be recorded. Numbers that it computes in JavaScript, and the
 * seeds of noise, are recorded as they are: what is to change from run to run must be an input.
 *
 * On devices that cannot record, the result calls `compute` each time.
 *
 * @throws what `compute` throws; Error when it reads values while it is recorded
 */
export function record(inputs: readonly tf.Tensor[], compute: TensorFunction): Recorded {
  const device = recordingDevice();
  if (device === undefined)
    return { replays: false, run: (...values) => tf.tidy(() => compute(...values)), dispose: () => {} };
  const own = ownInputs(device, inputs);
  try {
    tf.dispose(tf.tidy(() => compute(...own)));
  } catch (error) {
    tf.dispose(own);
    throw error;
  }
  return capture(device, own, compute);
}

/** See {@link recordOnRepeat}. */
class RecordedOnRepeat implements Recorded {
  #calls = 0;
  #replay: Replay | undefined;

  constructor(
    private readonly device: EquipoiseBackend | undefined,
    private readonly compute: TensorFunction,
  ) {}

  get replays(): boolean {
    return this.#replay !== undefined;
  }

  run(...inputs: tf.Tensor[]): tf.Tensor[] {
    const { device, compute } = this;
    // A profile would not see what a recording replays.
    if (device === undefined || this.#calls++ === 0 || (profiling() && !this.replays))
      return tf.tidy(() => compute(...inputs));
    this.#replay ??= capture(device, ownInputs(device, inputs), compute);
    return this.#replay.run(...inputs);
  }

  dispose(): void {
    this.#replay?.dispose();
    this.#replay = undefined;
  }
}

/**
 * `compute` for a loop: the first call runs as ever, the second is recorded (see {@link record}), and it and all further
 * ones are replays. Nothing is computed that is not asked for; inputs of all calls have the same shapes and storages.
 *
 * On devices that cannot record, with EQUIPOISE_CUDA_GRAPHS=0, and while a profile is taken, every call calls `compute`.
 *
 * @throws on running, what `compute` throws; Error when it reads values while it is recorded
 */
export function recordOnRepeat(compute: TensorFunction): Recorded {
  const off = process.env.EQUIPOISE_CUDA_GRAPHS === '0';
  return new RecordedOnRepeat(off ? undefined : recordingDevice(), compute);
}
