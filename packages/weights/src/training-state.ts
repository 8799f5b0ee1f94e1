/** Where a training stands: its position and, for each trained tensor, the value and Adam's moments, in one file. */
import { exists, invalid, prose } from '@equipoise/core';
import { readFloat32 } from './convert.js';
import { openSafetensors, writeSafetensors } from './safetensors.js';
import { float32Source } from './tensor-source.js';

/** A trained tensor with Adam's first and second moments, all of the same length. */
export interface TrainedTensor {
  readonly value: Float32Array;
  readonly m: Float32Array;
  readonly v: Float32Array;
}

/** All that a later process needs to go on, to the same bits, where this one stopped. */
export interface TrainingState {
  /** What is complete, in the trainer's own unit (updates or epochs). */
  readonly position: number;
  readonly tensors: readonly TrainedTensor[];
}

const PARTS = ['value', 'm', 'v'] as const;
const POSITION = 'position';

/** Writes a state atomically: a reader, also after a kill, sees the old file or the new one. */
export async function writeTrainingState(file: string, state: TrainingState): Promise<void> {
  const sources = state.tensors.flatMap((tensor, i) =>
    PARTS.map((part) => float32Source(`${i}.${part}`, [tensor[part].length], tensor[part])),
  );
  await writeSafetensors(file, sources, { metadata: { [POSITION]: String(state.position) } });
}

/**
 * Reads a state; undefined where there is no file.
 *
 * @throws EquipoiseError `corrupt` when the file is not what {@link writeTrainingState} writes
 */
export async function readTrainingState(file: string): Promise<TrainingState | undefined> {
  if (!(await exists(file))) return undefined;
  await using opened = await openSafetensors(file);
  const text = opened.metadata.get(POSITION);
  const position = text === undefined || text === '' ? Number.NaN : Number(text);
  if (!Number.isInteger(position) || position < 0)
    throw invalid(`${file}: ${POSITION}`, 'a count of what is complete', prose(String(text)), {
      code: 'corrupt',
    });
  const count = opened.tensors.size / PARTS.length;
  if (!Number.isInteger(count))
    throw invalid(file, `tensors in groups of ${PARTS.join(', ')}`, prose(`${opened.tensors.size} tensors`), {
      code: 'corrupt',
    });
  const tensors: TrainedTensor[] = [];
  for (let i = 0; i < count; i++) {
    const [value, m, v] = (await Promise.all(
      PARTS.map((part) => readFloat32(opened.get(`${i}.${part}`))),
    )) as [Float32Array, Float32Array, Float32Array];
    if (m.length !== value.length || v.length !== value.length)
      throw invalid(`${file}: ${i}`, 'moments as long as the value', [value.length, m.length, v.length], {
        code: 'corrupt',
      });
    tensors.push({ value, m, v });
  }
  return { position, tensors };
}
