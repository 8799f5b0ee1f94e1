/**
 * The fuzzing process; tools/fuzz.mjs starts it, again after each crash. Prints a JSON summary.
 * Usage: main.ts SEED FROM COUNT PROGRESS_FILE, or main.ts SEED INDEX 0 describe
 */
import fs from 'node:fs';
import { loadAddon } from '../load.js';
import { describeCall, runCalls } from './run.js';
import { unlisted } from './table.js';

const [seed = 0, from = 0, count = 0] = process.argv.slice(2, 5).map(Number);
if (process.argv[5] === 'describe') {
  process.stdout.write(describeCall(loadAddon('cpu'), seed, from));
  process.exit(0);
}
const progress = fs.openSync(process.argv[5] as string, 'w');
const position = Buffer.alloc(8);

const native = loadAddon('cpu');
const missing = unlisted(native);
const before = native.memory().blocks;
const summary = await runCalls(native, seed, from, count, (index) => {
  position.writeDoubleLE(index);
  fs.writeSync(progress, position, 0, 8, 0);
});
// Handles left to the garbage collector must come back through their finalisers.
for (let i = 0; i < 20 && native.memory().blocks > before; i++) {
  globalThis.gc?.();
  await new Promise((resolve) => setTimeout(resolve, 10));
}
const leaked = native.memory().blocks - before;
process.stdout.write(JSON.stringify({ ...summary, missing, leaked }));
