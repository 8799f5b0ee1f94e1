/**
 * Full-size Stable Diffusion 2.1 base, CLIP ViT-L/14 and the VAE in bf16, random weights, against diffusers and
 * transformers on PyTorch: every side in a process of its own, forwards taken in turn.
 *
 *     npm run models -w benchmarks -- --python PYTHON [--folder FOLDER] [--cases unet-1,unet-2,text,vae,load]
 *
 * Without --python, FOLDER must have the weights, and there are no peers.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { CeilingProbe, currentDevice, useEngine } from '@equipoise/backend';
import {
  defineOptions,
  formatError,
  invalid,
  type JobContext,
  type OptionsOf,
  option,
  prose,
  throwIfCancelled,
  z,
} from '@equipoise/core';
import { usePeers } from '../measure/peer.js';
import { benchmarkProgram, type Findings, jsonOption, pythonOption, roundOptions } from '../program.js';
import type { CaseRecord } from '../record.js';
import { CASES, type CaseName, measureForward, measureLoading } from './measure.js';
import { peerScript } from './participant.js';

const NAMES = [...(Object.keys(CASES) as CaseName[]), 'load'] as const;

const options = defineOptions('models', {
  python: pythonOption,
  folder: option(
    z.string().min(1).optional(),
    'Folder with the weights; made where absent. Default: temporary.',
  ),
  cases: option(
    z
      .array(z.enum(NAMES))
      .min(1)
      .default([...NAMES]),
    'What to measure.',
  ),
  rounds: roundOptions(5, 1).rounds,
  threads: option(z.int().min(1).max(1024).default(2), 'Threads of the peer.'),
  json: jsonOption,
});

/** Makes the weights where there are none. */
function prepare(folder: string, python: string | undefined): void {
  const parts = ['unet', 'vae', 'text_encoder'];
  if (parts.every((part) => existsSync(path.join(folder, part)))) return;
  if (python === undefined)
    throw invalid('--folder', 'a folder with unet, vae and text_encoder, or --python to make one', folder);
  const made = spawnSync(python, [peerScript, 'make', folder], { encoding: 'utf8' });
  if (made.status !== 0) {
    const reason = made.stderr.trim().split('\n').at(-1) ?? made.error?.message ?? '';
    throw invalid('--python', 'a Python with diffusers and transformers', prose(reason), { code: 'missing' });
  }
}

/** Memory at the peak in GB, and how much faster we are than the faster PyTorch. */
function summarise(cases: readonly CaseRecord[]): Record<string, number> {
  return Object.fromEntries(
    cases.flatMap(({ id, peers, peakBytes = {} }) => {
      // Loading is no race: PyTorch maps the file, and pays when it is read.
      const torch = id.startsWith('load') ? [] : Object.entries(peers);
      const ratios = torch.map(([, { ratio }]) => ratio);
      return [
        ...(ratios.length === 0
          ? []
          : [[`${id}: times the speed of the faster PyTorch`, Math.min(...ratios)] as const]),
        ...Object.entries(peakBytes).map(
          ([name, peak]) => [`${id}: GB at the peak, ${name}`, peak / 1e9] as const,
        ),
      ];
    }),
  );
}

async function run(
  settings: OptionsOf<typeof options>,
  { signal, onProgress }: JobContext,
): Promise<Findings> {
  const peers = usePeers(settings.python);
  await useEngine('equipoise-cpu');
  const native = currentDevice()?.native;
  if (native === undefined) throw new Error('the equipoise-cpu engine did not start');
  const folder = settings.folder ?? mkdtempSync(path.join(tmpdir(), 'equipoise-models-'));
  const probe = new CeilingProbe(native);
  const cases: CaseRecord[] = [];
  const failures: Record<string, string> = {};
  try {
    prepare(folder, peers.python);
    const { rounds, threads, cases: names } = settings;
    const bench = { folder, python: peers.python, rounds, threads, probe, signal };
    for (const [done, name] of names.entries()) {
      throwIfCancelled(signal, 'models');
      onProgress?.({ task: name, done, total: names.length, unit: 'case' });
      try {
        cases.push(name === 'load' ? await measureLoading(bench) : await measureForward(name, bench));
      } catch (error) {
        throwIfCancelled(signal, 'models');
        failures[name] = formatError(error);
      }
    }
  } finally {
    probe.dispose();
    if (settings.folder === undefined) rmSync(folder, { recursive: true, force: true });
  }
  const { versions: peerVersions, problem: peerProblem } = peers;
  return { suite: 'models', cases, failures, summary: summarise(cases), peerVersions, peerProblem };
}

await benchmarkProgram(options, run);
