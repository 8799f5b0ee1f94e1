/** What a prompt-image pair costs: MI beside generation alone, the savings, how the cost grows, and bf16 against f32. */
import { rmSync, statSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setPrecision, useEngine } from '@equipoise/backend';
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
import { medianSeconds, playRounds, timed } from '../measure/rounds.js';
import type { Probe } from './main.js';

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

export interface PairCost {
  readonly millisecondsPerPair: number;
  /** Median over rounds: a finished candidate with its MI over generation alone. At most 1.03 is wanted. */
  readonly withMiToGeneration: number;
  /** A scored candidate with all exact savings over one with none. */
  readonly savingsToNone: number;
  readonly discarded: number;
}

/** 16 candidates of 4 prompts, `steps` steps. */
export async function measurePair(
  probe: Probe,
  steps: number,
  options: { rounds: number; seconds: number },
): Promise<PairCost> {
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
  const { kept, discarded } = await playRounds(
    {
      alone: timed(() => generateAlone(parts, prompts, steps)),
      withMi: timed(score(true, true)),
      savings: timed(score(false, true)),
      none: timed(score(true, false)),
    },
    probe('f32'),
    { rounds: options.rounds, budget: options.seconds },
  );
  const ratio = (a: string, b: string): number => {
    const values = kept
      .map(({ seconds }) => (seconds[a] as number) / (seconds[b] as number))
      .sort((x, y) => x - y);
    return values[values.length >> 1] as number;
  };
  return {
    millisecondsPerPair: (1e3 * medianSeconds(kept, 'savings')) / prompts.length,
    withMiToGeneration: ratio('withMi', 'alone'),
    savingsToNone: ratio('savings', 'none'),
    discarded,
  };
}

export interface SweepScale {
  readonly pairs: number;
  readonly steps: number;
  readonly seconds: number;
  readonly pairsPerSecond: number;
  readonly journalBytesPerPair: number;
  readonly parquetBytesPerPair: number;
  readonly peakMegabytes: number;
}

/** A whole sweep of `pairs` pairs, 50 per prompt. */
export async function measureSweep(pairs: number, steps: number): Promise<SweepScale> {
  const parts = await tinyParts();
  const folder = await mkdtemp(join(tmpdir(), 'equipoise-sweep-'));
  try {
    const started = performance.now();
    const prompts = promptsOf(Math.ceil(pairs / 50));
    const options = { seed: 1, steps, guidance: GUIDANCE, prompts, candidates: 50, batch: 32 };
    const rows = await sweep({ folder, parts, options });
    const seconds = (performance.now() - started) / 1e3;
    return {
      pairs: rows.length,
      steps,
      seconds,
      pairsPerSecond: rows.length / seconds,
      journalBytesPerPair: statSync(join(folder, 'scores.jsonl')).size / rows.length,
      parquetBytesPerPair: statSync(join(folder, 'scores.parquet')).size / rows.length,
      peakMegabytes: process.resourceUsage().maxRSS / 1024,
    };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

export interface PrecisionAgreement {
  readonly pairs: number;
  /** Spearman's rank correlation of the scores in bf16 with those in f32, over all pairs and within prompts. */
  readonly overall: number;
  readonly withinPrompts: number;
}

/** The same pairs scored in either storage. */
export async function measurePrecision(
  prompts: number,
  candidates: number,
  steps: number,
): Promise<PrecisionAgreement> {
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
  return {
    pairs: requests.length,
    overall: spearman(full, half),
    withinPrompts: within.reduce((sum, rho) => sum + rho, 0) / within.length,
  };
}
