/**
 * Full-size Stable Diffusion 2.1 base, CLIP ViT-L/14 and the VAE in bf16, random weights, against diffusers and
 * transformers on PyTorch: every side in a process of its own, forwards taken in turn.
 *
 *     npm run models -w benchmarks -- --python PYTHON [--folder FOLDER] [--cases unet-1,unet-2,text,vae,load]
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { defineOptions, formatError, machineInfo, option, readCommandLine, z } from '@equipoise/core';
import { peerVersions } from '../measure/peer.js';
import { median } from '../measure/statistics.js';
import { type Measurement, Participant, peerScript } from './participant.js';
import type { ModelKind } from './protocol.js';

const CASES = {
  'unet-1': { model: 'unet', batch: 1, title: 'UNet, batch 1' },
  'unet-2': { model: 'unet', batch: 2, title: 'UNet, batch 2' },
  text: { model: 'text', batch: 108, title: 'CLIP L/14 text, 108 x 77' },
  vae: { model: 'vae', batch: 1, title: 'VAE decoder, 512 x 512' },
} as const satisfies Record<string, { model: ModelKind; batch: number; title: string }>;
type CaseName = keyof typeof CASES;

const options = defineOptions('models', {
  python: option(z.string().min(1).optional(), 'Python with diffusers; default $EQUIPOISE_PYTHON.'),
  folder: option(
    z.string().min(1).optional(),
    'Folder with the weights; made where absent. Default: temporary.',
  ),
  cases: option(z.string().default(`${Object.keys(CASES).join(',')},load`), 'What to measure, by commas.'),
  rounds: option(z.int().min(1).max(100).default(3), 'Turns of each side.'),
  threads: option(z.int().min(1).max(1024).default(2), 'Threads of the peer.'),
  json: option(z.string().min(1).optional(), 'File for the figures.'),
});

interface Result {
  readonly case: string;
  readonly title: string;
  /** Seconds of every turn, by side. */
  readonly seconds: Readonly<Record<string, readonly number[]>>;
  readonly peakBytes: Readonly<Record<string, number>>;
  /** Median over rounds of the best peer's time over ours: above 1 we are faster. */
  readonly speedup?: number;
  readonly memory?: number;
}

const gigabytes = (bytes: number): string => `${(bytes / 1e9).toFixed(2)} GB`;

async function measureCase(
  name: CaseName,
  folder: string,
  python: string,
  settings: { rounds: number; threads: number },
): Promise<Result> {
  const { model, batch, title } = CASES[name];
  const layouts = model === 'text' ? (['default'] as const) : (['default', 'channels_last'] as const);
  const sides = [
    Participant.ours(),
    ...layouts.map((layout) => Participant.peer(`PyTorch ${layout}`, python)),
  ];
  const seconds: Record<string, number[]> = {};
  const peaks: Record<string, number> = {};
  try {
    for (const [i, side] of sides.entries()) {
      await side.ask({
        op: 'load',
        folder,
        model,
        layout: layouts[i - 1] ?? 'default',
        threads: settings.threads,
      });
      await side.ask({ op: 'run', batch });
      seconds[side.name] = [];
    }
    for (let round = 0; round < settings.rounds; round++) {
      for (const side of sides) {
        const { seconds: taken, peakBytes } = await side.ask({ op: 'run', batch });
        seconds[side.name]?.push(taken);
        peaks[side.name] = peakBytes;
      }
    }
  } finally {
    for (const side of sides) await side.close();
  }
  const [ours, ...peers] = sides.map((side) => side.name) as [string, ...string[]];
  const best = peers.reduce((a, b) => (median(seconds[a] ?? []) <= median(seconds[b] ?? []) ? a : b));
  const speedup = median(
    (seconds[ours] ?? []).map((own, round) => (seconds[best]?.[round] ?? Number.NaN) / own),
  );
  return {
    case: name,
    title,
    seconds,
    peakBytes: peaks,
    speedup,
    memory: (peaks[ours] ?? Number.NaN) / (peaks[best] ?? Number.NaN),
  };
}

/** One action in a process of its own. */
async function alone(side: Participant, request: Parameters<Participant['ask']>[0]): Promise<Measurement> {
  try {
    return await side.ask(request);
  } finally {
    await side.close();
  }
}

async function measureLoading(
  folder: string,
  python: string,
  rounds: number,
  threads: number,
): Promise<Result> {
  const file = path.join(folder, 'unet', 'diffusion_pytorch_model.safetensors');
  const { size } = await stat(file);
  const turns: Record<string, () => Promise<Measurement>> = {
    'reading, one buffer': () => alone(Participant.ours(), { op: 'read', path: file, fresh: false }),
    'reading, fresh memory': () => alone(Participant.ours(), { op: 'read', path: file, fresh: true }),
    equipoise: () => alone(Participant.ours(), { op: 'load', folder, model: 'unet' }),
    PyTorch: () =>
      alone(Participant.peer('PyTorch', python), {
        op: 'load',
        folder,
        model: 'unet',
        layout: 'default',
        threads,
      }),
  };
  const seconds: Record<string, number[]> = {};
  const peaks: Record<string, number> = {};
  // The first round warms the page cache.
  for (let round = -1; round < rounds; round++) {
    for (const [name, turn] of Object.entries(turns)) {
      const { seconds: taken, peakBytes } = await turn();
      if (round < 0) continue;
      seconds[name] = [...(seconds[name] ?? []), taken];
      peaks[name] = Math.max(peaks[name] ?? 0, peakBytes);
    }
  }
  return {
    case: 'load',
    title: `loading the UNet, ${gigabytes(size)}`,
    seconds,
    peakBytes: peaks,
    memory: (peaks['equipoise'] ?? Number.NaN) / size,
  };
}

function render(result: Result): string[] {
  const rows = Object.entries(result.seconds).map(([name, taken]) => {
    const spread = `${Math.min(...taken).toFixed(2)} to ${Math.max(...taken).toFixed(2)}`;
    return `  ${name.padEnd(24)} ${median(taken).toFixed(3)} s (${spread}), peak ${gigabytes(result.peakBytes[name] ?? Number.NaN)}`;
  });
  const verdicts = [
    ...(result.speedup === undefined
      ? []
      : [`${result.speedup.toFixed(2)}x the speed of the faster PyTorch`]),
    ...(result.memory === undefined
      ? []
      : [
          `${result.memory.toFixed(2)}x ${result.case === 'load' ? "the file's size" : 'its memory'} at the peak`,
        ]),
    ...(result.case === 'load'
      ? Object.keys(result.seconds)
          .filter((name) => name.startsWith('reading'))
          .map(
            (name) =>
              `${(median(result.seconds['equipoise'] ?? []) / median(result.seconds[name] ?? [])).toFixed(2)}x the time of ${name}`,
          )
      : []),
  ];
  return [result.title, ...rows, `  = ${verdicts.join('; ')}`];
}

async function main(argv: readonly string[]): Promise<void> {
  const settings = readCommandLine(options, argv);
  if (settings === undefined) return;
  const python = settings.python ?? process.env.EQUIPOISE_PYTHON;
  const { versions, problem } = peerVersions(python);
  if (python === undefined || versions === null) throw new Error(problem ?? '--python is needed');
  const folder = settings.folder ?? mkdtempSync(path.join(tmpdir(), 'equipoise-models-'));
  const results: Result[] = [];
  try {
    if (!existsSync(path.join(folder, 'vae')) || !existsSync(path.join(folder, 'text_encoder'))) {
      const made = spawnSync(python, [peerScript, 'make', folder], {
        stdio: ['ignore', 'ignore', 'inherit'],
      });
      if (made.status !== 0) throw new Error(`${peerScript} make failed`);
    }
    for (const name of settings.cases.split(',')) {
      if (name !== 'load' && !(name in CASES))
        throw new Error(`--cases: expected some of ${Object.keys(CASES).join(', ')}, load; got ${name}`);
      const result =
        name === 'load'
          ? await measureLoading(folder, python, settings.rounds, settings.threads)
          : await measureCase(name as CaseName, folder, python, settings);
      results.push(result);
      for (const line of render(result)) console.log(line);
    }
  } finally {
    if (settings.folder === undefined) rmSync(folder, { recursive: true, force: true });
  }
  if (settings.json !== undefined) {
    await writeFile(
      settings.json,
      `${JSON.stringify({ argv, startedAt: new Date().toISOString(), machine: machineInfo(), peerVersions: versions, results }, null, 2)}\n`,
    );
  }
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  console.error(formatError(error));
  process.exitCode = 1;
}
