/** Options shared by all commands that compute. */
import { ENGINES, type Engine, setPrecision, useEngine } from '@equipoise/backend';
import { option, z } from '@equipoise/core';

export const engineOptions = {
  engine: option(z.enum(ENGINES).default('equipoise-cpu'), 'What computes.', { group: 'Engine' }),
  precision: option(
    z.enum(['f32', 'bf16']).default('f32'),
    'Storage of weights and activations: f32 for parity, bf16 for speed.',
    { group: 'Engine' },
  ),
};

/** Makes the engine of a command current. */
export async function openEngine({
  engine,
  precision,
}: {
  engine: Engine;
  precision: 'f32' | 'bf16';
}): Promise<void> {
  await useEngine(engine);
  setPrecision(precision);
}
