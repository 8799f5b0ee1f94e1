import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import {
  float32Source,
  readTrainingState,
  type TensorSource,
  type TrainingState,
  writeSafetensors,
  writeTrainingState,
} from './index.js';

const state: TrainingState = {
  position: 7,
  tensors: Array.from({ length: 11 }, (_, i) => ({
    value: Float32Array.of(i, 0.1, -0),
    m: Float32Array.of(1e-30, i, 2),
    v: Float32Array.of(3, 4, i),
  })),
};

t.test('what is written is read, in order, and an absent file is no state', async (t) => {
  const folder = t.testdir();
  const file = join(folder, 'state.safetensors');
  t.equal(await readTrainingState(file), undefined);
  await writeTrainingState(file, state);
  t.strictSame(await readTrainingState(file), state);
  await writeTrainingState(file, { position: 0, tensors: [] });
  t.strictSame(await readTrainingState(file), { position: 0, tensors: [] });
  t.same(await readdir(folder), ['state.safetensors'], 'no temporary file is left');
});

t.test('other files are refused', async (t) => {
  const file = join(t.testdir(), 'state.safetensors');
  const one = (name: string, length = 1): TensorSource =>
    float32Source(name, [length], new Float32Array(length));
  const group = [one('0.value'), one('0.m'), one('0.v')];
  const cases: [TensorSource[], Record<string, string> | null, RegExp][] = [
    [group, null, /position: expected a count of what is complete/],
    [group, { position: '' }, /position: expected a count/],
    [group, { position: '-1' }, /position: expected a count/],
    [group, { position: '1.5' }, /position: expected a count/],
    [group.slice(1), { position: '1' }, /expected tensors in groups of value, m, v, got 2 tensors/],
    [[one('0.value'), one('0.m'), one('1.v')], { position: '1' }, /0\.v/],
    [[one('0.value'), one('0.m'), one('0.v', 2)], { position: '1' }, /moments as long as the value/],
  ];
  for (const [tensors, metadata, message] of cases) {
    await writeSafetensors(file, tensors, { metadata });
    await t.rejects(readTrainingState(file), { message }, String(message));
  }
});
