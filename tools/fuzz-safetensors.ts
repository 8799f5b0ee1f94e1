/**
 * The process of `npm run fuzz -- --target safetensors`; tools/fuzz.mjs starts it under the sanitizers, again after each
 * crash. Seeded damage to valid files: each is refused in order, or opened as a file, and what it holds goes to the native
 * device and comes back as it should. Prints a JSON summary; the first failure ends it with exit status 1.
 *
 *     fuzz-safetensors.ts SEED FROM COUNT PROGRESS_FILE
 *     fuzz-safetensors.ts SEED INDEX 0 describe           saves one damaged file and names it
 */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { currentDevice, uploadWeight, useEngine } from '@equipoise/backend';
import {
  bfloat16ToFloat32,
  type DType,
  float16ToFloat32,
  float32ToBfloat16,
  type Header,
  openSafetensors,
  type TensorSource,
} from '@equipoise/weights';
import { fuzzReader, mutations } from '../packages/weights/src/fuzz.js';
import { buildHeader } from '../packages/weights/src/header.js';

const root = fileURLToPath(new URL('..', import.meta.url));
const MAX_CORPUS_BYTES = 4096;
/** Far above anything that files of a few kilobytes can rightly ask for. */
const DEVICE_BYTES = 64 << 20;

type Uploadable = 'F32' | 'F16' | 'BF16';
const counts: Record<string, { accepted: number; refused: number; faults: number }> = {};

function count(name: string, outcome: 'accepted' | 'refused', times = 1): void {
  counts[name] ??= { accepted: 0, refused: 0, faults: 0 };
  counts[name][outcome] += times;
}

/** The valid files of the tests, and one with what models hold: a filter, a matrix, vectors, in all uploadable types. */
function corpus(): Uint8Array[] {
  const folder = path.join(root, 'packages', 'weights', 'fixtures', 'containers');
  const files = fs
    .readdirSync(folder)
    .filter((name) => name.endsWith('.safetensors'))
    .map((name) => new Uint8Array(fs.readFileSync(path.join(folder, name))))
    .filter((bytes) => bytes.byteLength <= MAX_CORPUS_BYTES);
  return [...files, modelFile()];
}

function modelFile(): Uint8Array {
  const shapes: [string, DType, number, number[]][] = [
    ['conv_in.bias', 'F32', 4, [3]],
    ['conv_in.weight', 'F32', 4, [3, 2, 3, 3]],
    ['to_q.weight', 'BF16', 2, [5, 7]],
    ['conv_out.weight', 'F16', 2, [2, 3, 1, 3]],
    ['norm.weight', 'F16', 2, [17]],
  ];
  const infos = shapes.map(([name, dtype, bytes, shape]) => {
    const byteLength = bytes * shape.reduce((product, size) => product * size, 1);
    return { name, dtype, shape, byteLength };
  });
  const header = buildHeader(infos, new Map([['format', 'pt']]));
  const data = infos.reduce((sum, info) => sum + info.byteLength, 0);
  const file = new Uint8Array(header.byteLength + data);
  file.set(header);
  for (let i = 0; i < data; i++) file[header.byteLength + i] = (i * 37 + 11) % 251;
  return file;
}

/** Opens the damaged file from disk, and tries all of its tensors. */
async function load(file: string, bytes: Uint8Array, header: Header): Promise<string | undefined> {
  fs.writeFileSync(file, bytes);
  await using opened = await openSafetensors(file);
  if (opened.tensors.size !== header.tensors.length)
    return 'the file on disk has other tensors than in memory';
  for (const { name, begin, end } of header.tensors) {
    const source = opened.get(name);
    const expected = bytes.subarray(header.dataOffset + begin, header.dataOffset + end);
    // A buffer of just this size, so that the sanitizer sees a read past its end.
    const values = await source.read();
    if (Buffer.compare(values, expected) !== 0) return `${name}: other bytes than the file's`;
    const problem = await uploadAll(source, values);
    if (problem !== undefined) return `${name}: ${source.dtype} [${source.shape}]: ${problem}`;
  }
  return undefined;
}

/** Uploads a tensor in every storage and layout that a model might ask for. */
async function uploadAll({ dtype, shape }: TensorSource, bytes: Uint8Array): Promise<string | undefined> {
  if (dtype !== 'F32' && dtype !== 'F16' && dtype !== 'BF16') return undefined;
  for (const storage of ['f32', 'bf16'] as const) {
    for (const layout of shape.length === 4 ? (['same', 'oihw'] as const) : (['same'] as const)) {
      const what = `upload of ${dtype} as ${storage}${layout === 'same' ? '' : ', filter'}`;
      let tensor: ReturnType<typeof uploadWeight>;
      try {
        tensor = uploadWeight(bytes, [...shape], dtype, { storage, layout });
      } catch (error) {
        // What the format allows and no device can hold, such as rank 64.
        if (!(error instanceof RangeError || error instanceof TypeError)) throw error;
        count(what, 'refused');
        continue;
      }
      const got = await tensor.data<'float32'>();
      tensor.dispose();
      count(what, 'accepted');
      const expected = expectedValues(bytes, shape, dtype, storage, layout);
      if (!sameNumbers(got, expected)) return `${what}: came back with other values`;
    }
  }
  return undefined;
}

/** The values a device should give back, computed on the host. */
function expectedValues(
  bytes: Uint8Array,
  shape: readonly number[],
  dtype: Uploadable,
  storage: 'f32' | 'bf16',
  layout: 'same' | 'oihw',
): Float32Array {
  const buffer = bytes.slice().buffer;
  let values: Float32Array;
  if (dtype === 'F32') values = new Float32Array(buffer);
  else values = (dtype === 'F16' ? float16ToFloat32 : bfloat16ToFloat32)(new Uint16Array(buffer));
  if (storage === 'bf16') values = bfloat16ToFloat32(float32ToBfloat16(values));
  if (layout === 'same') return values;
  const [out, input, height, width] = shape as [number, number, number, number];
  const moved = new Float32Array(values.length);
  let from = 0;
  for (let o = 0; o < out; o++)
    for (let i = 0; i < input; i++)
      for (let p = 0; p < height * width; p++) moved[(p * input + i) * out + o] = values[from++] as number;
  return moved;
}

/** Equal bits; all NaNs are one. */
function sameNumbers(a: Float32Array, b: Float32Array): boolean {
  return a.length === b.length && a.every((x, i) => Object.is(x, b[i]));
}

function describe(seed: number, index: number): void {
  for (const bytes of mutations({ count: 1, seed, first: index, corpus: corpus() })) {
    const file = path.join('runs', 'fuzz', `damaged-${seed}-${index}.safetensors`);
    fs.mkdirSync(path.join(root, path.dirname(file)), { recursive: true });
    fs.writeFileSync(path.join(root, file), bytes);
    process.stdout.write(`damaged file ${index} of seed ${seed}, saved as ${file}`);
  }
}

async function run(seed: number, first: number, calls: number, progressFile: string): Promise<void> {
  await useEngine('equipoise-cpu');
  const native = currentDevice()?.native;
  if (native === undefined) throw new Error('the native device is not there');
  native.setMemoryLimit(DEVICE_BYTES);
  const before = native.memory().blocks;
  const progress = fs.openSync(progressFile, 'w');
  const position = Buffer.alloc(8);
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'equipoise-fuzz-'));
  const file = path.join(folder, 'damaged.safetensors');
  try {
    const report = await fuzzReader({
      count: calls,
      seed,
      first,
      corpus: corpus(),
      before: (index) => {
        position.writeDoubleLE(index);
        fs.writeSync(progress, position, 0, 8, 0);
      },
      load: (bytes, header) => load(file, bytes, header),
    });
    count('reader', 'accepted', report.accepted);
    for (const [reason, times] of Object.entries(report.reasons))
      count(`reader: ${reason}`, 'refused', times);
  } finally {
    fs.rmSync(folder, { recursive: true });
  }
  const leaked = native.memory().blocks - before;
  process.stdout.write(JSON.stringify({ calls, functions: counts, problems: [], missing: [], leaked }));
}

const [seed = 0, first = 0, calls = 0] = process.argv.slice(2, 5).map(Number);
const last = process.argv[5];
if (last === undefined) throw new Error('usage: fuzz-safetensors.ts SEED FROM COUNT PROGRESS_FILE|describe');
if (last === 'describe') describe(seed, first);
else await run(seed, first, calls, last);
