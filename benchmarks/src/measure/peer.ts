/** A Python process that others' kernels run in; its scripts are in tools/peers. */
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { type EquipoiseError, invalid, prose } from '@equipoise/core';
import type { PeerCall } from '../kernels/case.js';
import { LineProcess } from './line-process.js';

/** The peers' scripts; the same from src/ and dist/. */
export const peerScripts = path.join(
  path.dirname(fileURLToPath(import.meta.url)),
  '..',
  '..',
  '..',
  'tools',
  'peers',
);

export interface Peers {
  /** The Python to ask; undefined where none was named. */
  readonly python: string | undefined;
  readonly versions: Record<string, string> | null;
  readonly problem: string | null;
}

/**
 * The peers' Python, `named` or that of EQUIPOISE_PYTHON.
 *
 * @throws EquipoiseError `missing` when one is named and is of no use: figures without the peer that was asked for would
 * pass for complete ones
 */
export function usePeers(named: string | undefined): Peers {
  const python = named ?? process.env.EQUIPOISE_PYTHON;
  if (python === undefined) {
    const problem = 'no Python with PyTorch was named (--python or EQUIPOISE_PYTHON)';
    return { python, versions: null, problem };
  }
  const program = [
    'import importlib.metadata as m, json, platform',
    'names = ["torch", "peft"]',
    'found = {d.metadata["Name"].lower(): d.version for d in m.distributions()}',
    'print(json.dumps({"python": platform.python_version(), **{n: found[n] for n in names if n in found}}))',
  ].join('\n');
  const result = spawnSync(python, ['-c', program], { encoding: 'utf8' });
  const refuse = (reason: string): EquipoiseError =>
    invalid('--python', 'a Python with PyTorch', prose(`${python}: ${reason}`), { code: 'missing' });
  if (result.status !== 0)
    throw refuse((result.stderr ?? '').trim() || result.error?.message || 'it could not be run');
  const versions = JSON.parse(result.stdout) as Record<string, string>;
  if (versions.torch === undefined) throw refuse('torch is not installed');
  return { python, versions, problem: null };
}

/** One process per script, started when first asked. */
export class PeerPool {
  readonly #processes = new Map<string, LineProcess>();

  constructor(readonly python: string) {}

  /** Fastest call in seconds among those of about `budget` seconds. */
  async time(call: PeerCall, dtype: 'f32' | 'bf16', threads: number, budget: number): Promise<number> {
    let process = this.#processes.get(call.script);
    if (process === undefined) {
      process = new LineProcess(call.script, this.python, [path.join(peerScripts, call.script)]);
      this.#processes.set(call.script, process);
    }
    const { seconds } = await process.ask<{ seconds: number }>({
      case: call.case,
      dtype,
      threads,
      seconds: budget,
    });
    return seconds;
  }

  close(): void {
    for (const process of this.#processes.values()) process.kill();
    this.#processes.clear();
  }
}
