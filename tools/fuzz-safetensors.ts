/**
 * Damages safetensors files at random and feeds them to the reader.
 *
 *     npx tsx --conditions=equipoise-source tools/fuzz-safetensors.ts [count] [seed] [first]
 *
 * Ends with exit code 1 at the first mutation that crashes the reader, keeps it busy or makes it lie, and saves
 * that file. `1 SEED INDEX` repeats a single mutation.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { FuzzFailure, fuzzReader } from '../packages/weights/src/fuzz.js';

const MAX_CORPUS_BYTES = 4096;

const [count = 1_000_000, seed = 1, first = 0] = process.argv.slice(2).map(Number);
for (const [name, value] of Object.entries({ count, seed, first })) {
  if (!Number.isSafeInteger(value) || value < 0) {
    console.error(`${name}: expected an integer of at least 0, got ${value}`);
    process.exit(2);
  }
}

const folder = fileURLToPath(new URL('../packages/weights/fixtures/containers', import.meta.url));
const corpus = readdirSync(folder)
  .filter((name) => name.endsWith('.safetensors'))
  .map((name) => new Uint8Array(readFileSync(join(folder, name))))
  .filter((bytes) => bytes.byteLength <= MAX_CORPUS_BYTES);

try {
  const start = performance.now();
  const report = fuzzReader({ count, seed, first, corpus });
  const seconds = (performance.now() - start) / 1000;
  for (const [reason, times] of Object.entries(report.reasons).sort((a, b) => b[1] - a[1])) {
    console.log(`${String(times).padStart(9)}  ${reason}`);
  }
  console.log(
    `fuzz-safetensors: ${report.mutations} mutations, ${report.refused} refused, ${report.accepted} accepted and ` +
      `consistent, slowest ${report.slowestMs.toFixed(1)} ms, ${seconds.toFixed(1)} s`,
  );
} catch (error) {
  if (!(error instanceof FuzzFailure)) throw error;
  const file = `fuzz-safetensors-${seed}-${error.index}.bin`;
  writeFileSync(file, error.bytes);
  console.error(`${error.message}\nseed ${seed}; saved as ${file}`);
  process.exitCode = 1;
}
