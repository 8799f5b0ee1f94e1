/** Options shared by all commands that compute. */
import { ENGINES, type Engine, selectCudaDevice, setPrecision, useEngine } from '@equipoise/backend';
import { invalid, option, prose, z } from '@equipoise/core';

export const engineOptions = {
  engine: option(z.enum(ENGINES).default('equipoise-cpu'), 'What computes.', { group: 'Engine' }),
  device: option(
    z.string().optional(),
    'Short for the engine of a device: cpu, cuda, or cuda:N for one of several GPUs (one process each).',
    { group: 'Engine', placeholder: '<cpu|cuda|cuda:N>' },
  ),
  precision: option(
    z.enum(['f32', 'bf16']).default('f32'),
    'Storage of weights and activations: f32 for parity, bf16 for speed.',
    { group: 'Engine' },
  ),
};

/**
 * Resolves `--device`: the same options with the device's engine, and the GPU chosen. Its number is no option of the
 * job, which may go on on another GPU.
 * @throws EquipoiseError for a device that does not exist, or one beside a foreign engine
 */
export function withDevice<T extends Record<string, unknown>>(options: T): T {
  const { device, ...rest } = options as T & { device?: string };
  if (device === undefined) return options;
  const match = /^(cpu|cuda)(?::(\d{1,4}))?$/.exec(device);
  if (match === null || (match[1] === 'cpu' && match[2] !== undefined))
    throw invalid('--device', 'cpu, cuda or cuda:N', device);
  if (rest.engine !== 'equipoise-cpu' && rest.engine !== `equipoise-${match[1]}`)
    throw invalid('--device', 'nothing beside another --engine', prose(String(rest.engine)));
  if (match[2] !== undefined) selectCudaDevice(Number(match[2]));
  return { ...rest, engine: `equipoise-${match[1]}` } as unknown as T;
}

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
