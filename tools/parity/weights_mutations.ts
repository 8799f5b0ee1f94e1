/**
 * Writes damaged safetensors files, with this project's verdict on each, into one file: run by
 * weights_differential.py. A frame is u32 file bytes, u32 verdict bytes (little-endian), file, verdict; an empty
 * verdict means accepted.
 *
 *     npx tsx --conditions=equipoise-source tools/parity/weights_mutations.ts COUNT SEED FILE
 */
import { open } from 'node:fs/promises';
import { EquipoiseError, writeFully } from '../../packages/core/src/index.js';
import { mutations } from '../../packages/weights/src/fuzz.js';
import { parseSafetensors } from '../../packages/weights/src/index.js';

const [count, seed, path] = process.argv.slice(2);
if (count === undefined || seed === undefined || path === undefined) {
  console.error('usage: weights_mutations.ts COUNT SEED FILE');
  process.exit(2);
}
const file = await open(path, 'w');
for (const bytes of mutations({ count: Number(count), seed: Number(seed) })) {
  let verdict = '';
  try {
    parseSafetensors(bytes, 'f');
  } catch (error) {
    if (!(error instanceof EquipoiseError)) throw error;
    verdict = error.message;
  }
  const text = Buffer.from(verdict);
  const frame = Buffer.alloc(8);
  frame.writeUInt32LE(bytes.byteLength, 0);
  frame.writeUInt32LE(text.byteLength, 4);
  await writeFully(file, Buffer.concat([frame, bytes, text]));
}
await file.close();
