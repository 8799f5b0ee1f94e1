/** What a prompt-image pair costs: MI beside generation alone, the savings, how the cost grows, and bf16 against f32. */
import { rmSync, statSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setPrecision, useEngine } from '@equipoise/backend';
import { type JobContext, throwIfCancelled } from '@equipoise/core';
import { createSampler, denoise, latentNoise } from '@equipoise/diffusion';
import { spearman } from '@equipoise/metrics';
import {
  allSavings,
  type DiffusionParts,
  encodePrompts,
  openParts,
  partsSchedule,
  sampleCandidates,
  sweep,
} from '@equipoise/mi-tune';
import { SHIPPED_WEIGHTS, suitePrompts } from '@equipoise/tiny-world';
import * as tf from '@tensorflow/tfjs-core';
import { medianRatio, playRounds, timed } from '../measure/rounds.js';
import { median } from '../measure/statistics.js';
import { countWork, floorSeconds, totalWork } from '../measure/work.js';
import type { CaseRecord } from '../record.js';
import type { Bench, Part } from './main.js';

const GUIDANCE = 4;

async function tinyParts(storage: 'f32' | 'bf16' = 'f32'): Promise<DiffusionParts> {
  await useEngine('equipoise-cpu');
  setPrecision(storage);
  return (await openParts(SHIPPED_WEIGHTS, { sampler: 'ddim', storage })).parts;
}

const promptsOf = (count: number): string[] => suitePrompts('color', 1, count).map(({ text }) => text);

/** Text-to-image without MI: the same loop, text and noise. */
async function generateAlone(
  parts: DiffusionParts,
  prompts: readonly string[],
  steps: number,
): Promise<void> {
  const sampler = createSampler(parts.scheduler, { steps }, partsSchedule(parts));
  const noise = latentNoise('philox', [prompts.length, ...parts.latentShape], 1);
  const cond = encodePrompts(parts, prompts);
  const uncond = encodePrompts(
    parts,
    prompts.map(() => ''),
  );
  const initial = noise.initial();
  const { latents } = await denoise(initial, {
    unet: parts.unet,
    sampler,
    conditioning: { cond, uncond, promptIndex: prompts.map((_, i) => i) },
    guidance: GUIDANCE,
    noise: (index) => noise.step(index),
  });
  tf.dispose([latents, initial, cond, uncond]);
}

/** 16 candidates of 4 prompts, `steps` steps: alone, with MI, and scored with and without the exact savings. */
export async function measurePair(
  { probe, context: { signal } }: Bench,
  steps: number,
  options: { rounds: number; seconds: number },
): Promise<Part> {
  const parts = await tinyParts();
  const prompts = promptsOf(4).flatMap((prompt) => [prompt, prompt, prompt, prompt]);
  const sampling = { seed: 1, steps, guidance: GUIDANCE };
  const requests = prompts.map((prompt, i) => ({ prompt, candidate: i }));
  const score = (finish: boolean, on: boolean) => async (): Promise<void> => {
    const { latents } = await sampleCandidates(
      parts,
      requests,
      sampling,
      finish,
      {},
      { savings: allSavings(on) },
    );
    latents.dispose();
  };
  const calls: Record<string, () => Promise<void>> = {
    'generation alone': () => generateAlone(parts, prompts, steps),
    'with MI': score(true, true),
    'scores alone': score(false, true),
    'with MI, no savings': score(true, false),
  };
  const { kept, discarded } = await playRounds(
    Object.fromEntries(Object.entries(calls).map(([name, call]) => [name, timed(call)])),
    () => {
      throwIfCancelled(signal, 'mi-tune');
      return probe.measure('f32');
    },
    { rounds: options.rounds, budget: options.seconds },
  );
  const cases: CaseRecord[] = [];
  for (const [name, call] of Object.entries(calls)) {
    const work = await countWork(call);
    const seconds = kept.map((round) => round.seconds[name] as number);
    const floors = kept.map((round) => floorSeconds(work, round.ceilings));
    cases.push({
      id: `${prompts.length} pairs, ${steps} steps, ${name} f32`,
      family: 'pair',
      precision: 'f32',
      kernels: [],
      ...totalWork(work),
      seconds,
      floors,
      units: { name: 'pair', count: prompts.length },
      peers: {},
      peerProblems: {},
      ofCeiling: median(seconds.map((value, i) => (floors[i] as number) / value)),
      discarded,
    });
  }
  return {
    cases,
    summary: {
      'a candidate with its MI over generation alone (at most 1.03 is wanted)': medianRatio(
        kept,
        'with MI',
        'generation alone',
      ),
      'a scored candidate with all exact savings over one with none': medianRatio(
        kept,
        'scores alone',
        'with MI, no savings',
      ),
    },
  };
}

/** A whole sweep of `pairs` pairs, 50 per prompt. */
export async function measureSweep(pairs: number, steps: number, context: JobContext): Promise<Part> {
  const parts = await tinyParts();
  const folder = await mkdtemp(join(tmpdir(), 'equipoise-sweep-'));
  try {
    const started = performance.now();
    const prompts = promptsOf(Math.ceil(pairs / 50));
    const options = { seed: 1, steps, guidance: GUIDANCE, prompts, candidates: 50, batch: 32 };
    const rows = await sweep({ folder, parts, options }, context);
    const seconds = (performance.now() - started) / 1e3;
    const bytes = (file: string): number => statSync(join(folder, file)).size / rows.length;
    const summary = {
      pairs: rows.length,
      seconds,
      'pairs per second': rows.length / seconds,
      'bytes per pair, journal': bytes('scores.jsonl'),
      'bytes per pair, Parquet': bytes('scores.parquet'),
      'resident MB at the peak': process.resourceUsage().maxRSS / 1024,
    };
    return { cases: [], summary };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** The same pairs scored in either storage. */
export async function measurePrecision(prompts: number, candidates: number, steps: number): Promise<Part> {
  const texts = promptsOf(prompts);
  const requests = texts.flatMap((prompt) =>
    Array.from({ length: candidates }, (_, candidate) => ({ prompt, candidate })),
  );
  const scores = async (storage: 'f32' | 'bf16'): Promise<number[]> => {
    const parts = await tinyParts(storage);
    const all: number[] = [];
    for (let start = 0; start < requests.length; start += 20) {
      const part = requests.slice(start, start + 20);
      const { mi, latents } = await sampleCandidates(
        parts,
        part,
        { seed: 3, steps, guidance: GUIDANCE },
        false,
      );
      latents.dispose();
      all.push(...mi);
    }
    return all;
  };
  const [full, half] = [await scores('f32'), await scores('bf16')];
  setPrecision('f32');
  const within = texts.map((_, p) =>
    spearman(
      full.slice(p * candidates, (p + 1) * candidates),
      half.slice(p * candidates, (p + 1) * candidates),
    ),
  );
  const summary = {
    pairs: requests.length,
    'rank correlation of bf16 with f32 (at least 0.98 is wanted)': spearman(full, half),
    'rank correlation within prompts, mean': within.reduce((sum, rho) => sum + rho, 0) / within.length,
  };
  return { cases: [], summary };
}
