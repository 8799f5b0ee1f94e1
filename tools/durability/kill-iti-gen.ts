/**
 * Kills an ITI-GEN training at random instants, resumes it, and compares its tokens bit for bit with an undisturbed run's.
 *
 *   node --import=tsx --conditions=equipoise-source tools/durability/kill-iti-gen.ts [--kills 20] [--epochs 80] [--seed 1]
 *
 * Needs the addon (npm run build:native); exits with 1 on any difference.
 */
import { PhiloxSequence } from '@equipoise/core';
import { killAndResume } from '../../apps/cli/src/testing/kill-resume.js';
import { judge, settings } from './common.mjs';

const { kills, epochs, seed } = settings({ kills: 20, epochs: 80, seed: 1 });
const random = new PhiloxSequence(seed);

await judge(async (folder) => {
  const result = await killAndResume({
    folder,
    kills,
    epochs,
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
  return different.length === 0;
});
