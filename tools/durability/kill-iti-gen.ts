/**
 * Kills an ITI-GEN training at random instants, resumes it, and compares its tokens bit for bit with an undisturbed run's.
 *
 *   node --import=tsx --conditions=equipoise-source tools/durability/kill-iti-gen.ts [--kills 20] [--epochs 80] [--seed 1]
 *
 * Needs the addon (npm run build:native); exits with 1 on any difference.
 */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { PhiloxSequence } from '@equipoise/core';
import { killAndResume } from '../../apps/cli/src/testing/kill-resume.js';

const whole = (value: string, name: string): number => {
  const number = Number(value);
  if (!Number.isInteger(number) || number < 1)
    throw new TypeError(`--${name}: expected a positive integer, got ${value}`);
  return number;
};
const option = (fallback: string) => ({ type: 'string', default: fallback }) as const;
const { values } = parseArgs({ options: { kills: option('20'), epochs: option('80'), seed: option('1') } });
const random = new PhiloxSequence(whole(values.seed, 'seed'));
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'equipoise-kill-'));
try {
  const result = await killAndResume({
    folder,
    kills: whole(values.kills, 'kills'),
    epochs: whole(values.epochs, 'epochs'),
    random: () => random.uniform(),
    log: console.log,
  });
  const names = [...new Set([...Object.keys(result.whole), ...Object.keys(result.killed)])];
  const different = names.filter((name) => result.whole[name] !== result.killed[name]);
  console.log(
    different.length === 0
      ? `${names.length} token files equal bit for bit after ${result.struck.length} kills`
      : `DIFFERENT after ${result.struck.length} kills: ${different.join(', ')}`,
  );
  process.exitCode = different.length === 0 ? 0 : 1;
} finally {
  fs.rmSync(folder, { recursive: true, force: true });
}
