/**
 * A seeded mutation fuzzer for the safetensors reader: valid files are damaged in ways files get damaged, and in
 * ways an attacker would choose; the reader must refuse each with its own kind of error or hand out a header
 * whose every promise holds. tools/fuzz-safetensors.ts runs it at length.
 */
import { EquipoiseError, PhiloxSequence, streamId } from '@equipoise/core';
import { bitsOf, DTYPES } from './dtypes.js';
import { buildHeader, type Header } from './header.js';
import { parseSafetensors } from './safetensors.js';

export interface FuzzOptions {
  readonly count: number;
  readonly seed: number;
  /** First mutation; with count 1 this repeats a single one. */
  readonly first?: number;
  /** Valid files to start from, besides the built-in ones. */
  readonly corpus?: readonly Uint8Array[];
  /** Told the index of each mutation before it is tried, so that a crash of the whole process can be placed. */
  readonly before?: (index: number) => void;
  /** Tries an accepted file further, by loading its tensors; returns what went wrong. */
  readonly load?: (bytes: Uint8Array, header: Header) => Promise<string | undefined>;
}

export interface FuzzReport {
  readonly mutations: number;
  readonly accepted: number;
  readonly refused: number;
  /** Refusals by the field of the message, to see that all checks are reached. */
  readonly reasons: Readonly<Record<string, number>>;
  readonly slowestMs: number;
}

/** A mutation on which the reader misbehaved; `index` and the seed repeat it. */
export class FuzzFailure extends Error {
  constructor(
    readonly index: number,
    readonly bytes: Uint8Array,
    reason: string,
    cause?: unknown,
  ) {
    super(`mutation ${index}: ${reason}`, { cause });
  }
}

/** No input of a few kilobytes may keep the reader busy for this long. */
const HANG_MS = 2000;

/**
 * Runs `count` mutations.
 *
 * @throws FuzzFailure on a crash (any error that is not a refusal), a hang, a header that lies, or what `load` found
 */
export async function fuzzReader(options: FuzzOptions): Promise<FuzzReport> {
  const { count, seed, first = 0, corpus = [], before, load } = options;
  const files = [...builtInCorpus(), ...corpus];
  const reasons: Record<string, number> = {};
  let accepted = 0;
  let slowestMs = 0;
  for (let index = first; index < first + count; index++) {
    before?.(index);
    const bytes = mutateAt(files, seed, index);
    const start = performance.now();
    let header: Header | undefined;
    try {
      header = parseSafetensors(bytes, 'f');
    } catch (error) {
      if (!(error instanceof EquipoiseError) || error.code !== 'corrupt') {
        throw new FuzzFailure(index, bytes, `not refused but crashed: ${String(error)}`, error);
      }
      const reason = reasonOf(error.message);
      reasons[reason] = (reasons[reason] ?? 0) + 1;
    }
    const elapsed = performance.now() - start;
    slowestMs = Math.max(slowestMs, elapsed);
    if (elapsed > HANG_MS) throw new FuzzFailure(index, bytes, `took ${Math.round(elapsed)} ms`);
    if (header === undefined) continue;
    accepted += 1;
    const lie = findLie(header, bytes.byteLength) ?? (await load?.(bytes, header));
    if (lie !== undefined) throw new FuzzFailure(index, bytes, lie);
  }
  return { mutations: count, accepted, refused: count - accepted, reasons, slowestMs };
}

/** Mutation `index` of a seed, starting from one of `files`. */
function mutateAt(files: readonly Uint8Array[], seed: number, index: number): Uint8Array {
  return mutate(files, new PhiloxSequence(seed, streamId('safetensors', index)));
}

/** The files {@link fuzzReader} tries, for comparing with another reader. */
export function* mutations({ count, seed, first = 0, corpus = [] }: FuzzOptions): Generator<Uint8Array> {
  const files = [...builtInCorpus(), ...corpus];
  for (let index = first; index < first + count; index++) yield mutateAt(files, seed, index);
}

function reasonOf(message: string): string {
  return /^f: (?:tensor "(?:[^"\\]|\\.)*"?…?(?:: )?)?([a-z_ ]*)/s.exec(message)?.[1]?.trim() || 'tensor';
}

/** Checks, independently of the reader, what a header promises. */
function findLie(header: Header, fileBytes: number): string | undefined {
  const names = new Set<string>();
  let covered = 0n;
  for (const { name, dtype, shape, begin, end } of header.tensors) {
    if (names.has(name)) return `${name} occurs twice`;
    names.add(name);
    if (BigInt(begin) !== covered) return `${name} does not start where the previous one ends`;
    const bits = shape.reduce((product, size) => product * BigInt(size), BigInt(bitsOf(dtype)));
    if (bits !== (BigInt(end) - BigInt(begin)) * 8n) return `${name} has another size than its shape`;
    covered = BigInt(end);
  }
  if (BigInt(header.dataOffset) + covered !== BigInt(fileBytes)) return 'the tensors do not cover the file';
  return undefined;
}

function builtInCorpus(): Uint8Array[] {
  const make = (
    metadata: Record<string, string>,
    ...tensors: [string, (typeof DTYPES)[number], number[]][]
  ): Uint8Array => {
    const infos = tensors.map(([name, dtype, shape]) => {
      const byteLength = (shape.reduce((product, size) => product * size, 1) * bitsOf(dtype)) / 8;
      return { name, dtype, shape, byteLength };
    });
    const header = buildHeader(infos, new Map(Object.entries(metadata)));
    const data = infos.reduce((sum, info) => sum + info.byteLength, 0);
    const file = new Uint8Array(header.byteLength + data).fill(7);
    file.set(header);
    return file;
  };
  return [
    make({}),
    make({ format: 'pt' }, ['a', 'F32', [2, 3]]),
    make({}, ['weight', 'F16', [4]], ['bias', 'BF16', [0]], ['é', 'U8', []]),
    make(
      { k: 'v"\\' },
      ['c', 'I64', [1]],
      ['b', 'F64', [2]],
      ['a', 'F4', [2, 2]],
      ['d', 'F6_E2M3', [4]],
      ['e', 'BOOL', [3]],
    ),
    make(
      {},
      ...Array.from({ length: 20 }, (_, i): [string, 'F32', number[]] => [`layers.${i}.weight`, 'F32', [i]]),
    ),
  ];
}

type Mutator = (bytes: Uint8Array, random: PhiloxSequence, files: readonly Uint8Array[]) => Uint8Array;

function mutate(files: readonly Uint8Array[], random: PhiloxSequence): Uint8Array {
  let bytes: Uint8Array = random.pick(files).slice();
  // Mostly a single change: more of them hide the later checks behind the first.
  for (let rounds = Math.max(1, random.int(6) - 2); rounds > 0; rounds--) {
    bytes = random.pick(MUTATORS)(bytes, random, files);
  }
  return bytes;
}

function splice(bytes: Uint8Array, at: number, remove: number, insert: Uint8Array): Uint8Array {
  const tail = bytes.subarray(Math.min(at + remove, bytes.byteLength));
  const result = new Uint8Array(at + insert.byteLength + tail.byteLength);
  result.set(bytes.subarray(0, at));
  result.set(insert, at);
  result.set(tail, at + insert.byteLength);
  return result;
}

function setLength(bytes: Uint8Array, length: bigint): Uint8Array {
  if (bytes.byteLength >= 8)
    new DataView(bytes.buffer, bytes.byteOffset).setBigUint64(0, BigInt.asUintN(64, length), true);
  return bytes;
}

const LENGTHS = [
  0n,
  1n,
  2n,
  7n,
  8n,
  100_000_000n,
  100_000_001n,
  2n ** 31n,
  2n ** 32n,
  2n ** 53n,
  2n ** 63n,
  2n ** 64n - 1n,
];

const NUMBERS = [
  '0',
  '1',
  '-1',
  '-0',
  '00',
  '1.0',
  '1e0',
  '1e400',
  '0.5',
  '2147483648',
  '4294967295',
  '4294967296',
  '4611686018427387904',
  '9007199254740991',
  '9007199254740993',
  '18446744073709551615',
  '18446744073709551616',
  '99999999999999999999999999',
  'null',
  'true',
  '""',
  '"1"',
  '[]',
  '{}',
  'NaN',
  'Infinity',
  '0x10',
];
const TOKENS = [
  '{',
  '}',
  '[',
  ']',
  ',',
  ':',
  '"',
  '\\',
  ' ',
  '\0',
  '\ufeff',
  '\\u0000',
  '\\ud800',
  '__metadata__',
  '"dtype":"F32",',
  '"shape":[],',
  '"data_offsets":[0,0],',
  '"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},',
  '"__metadata__":null,',
  '"__metadata__":{"a":1},',
  '[[[[[[[[',
  ...DTYPES,
];

/** Edits the JSON part as text, then makes the declared length fit, so that the edit is reached. */
function editJson(bytes: Uint8Array, random: PhiloxSequence, edit: (text: string) => string): Uint8Array {
  if (bytes.byteLength < 8) return bytes;
  const declared = new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true);
  const length = declared > BigInt(bytes.byteLength - 8) ? bytes.byteLength - 8 : Number(declared);
  const text = Buffer.from(bytes.subarray(8, 8 + length)).toString('utf8');
  const json = new TextEncoder().encode(edit(text));
  const result = splice(bytes, 8, length, json);
  return random.int(8) === 0 ? result : setLength(result, BigInt(json.byteLength));
}

/** Replaces one number of the header by a neighbour or an extreme. */
const changeNumber: Mutator = (bytes, random) =>
  editJson(bytes, random, (text) => {
    const numbers = [...text.matchAll(/\d+/g)];
    if (numbers.length === 0) return text;
    const { 0: old, index } = random.pick(numbers);
    const near = String(Number(old) + random.int(9) - 4);
    return (
      text.slice(0, index) +
      (random.int(2) === 0 ? random.pick(NUMBERS) : near) +
      text.slice(index + old.length)
    );
  });

/** Puts a well-formed member in front of the header's others. */
const insertMember: Mutator = (bytes, random) =>
  editJson(bytes, random, (text) =>
    text.replace('{', `{${random.pick(TOKENS.filter((token) => token.endsWith(',')))}`),
  );

const MUTATORS: readonly Mutator[] = [
  (bytes, random) => {
    if (bytes.byteLength === 0) return bytes;
    const at = random.int(bytes.byteLength);
    bytes[at] = (bytes[at] as number) ^ (1 << random.int(8));
    return bytes;
  },
  (bytes, random) => {
    if (bytes.byteLength > 0) bytes[random.int(bytes.byteLength)] = random.int(256);
    return bytes;
  },
  (bytes, random) => bytes.slice(0, random.int(bytes.byteLength + 1)),
  (bytes, random) => splice(bytes, bytes.byteLength, 0, new Uint8Array(1 + random.int(16))),
  (bytes, random) =>
    splice(
      bytes,
      random.int(bytes.byteLength + 1),
      random.int(16),
      new Uint8Array(random.int(16)).fill(random.int(256)),
    ),
  (bytes, random) => setLength(bytes, random.pick(LENGTHS)),
  (bytes, random) => setLength(bytes, BigInt(bytes.byteLength) + BigInt(random.int(32)) - 16n),
  changeNumber,
  changeNumber,
  changeNumber,
  insertMember,
  (bytes, random) =>
    editJson(bytes, random, (text) => {
      const at = random.int(text.length + 1);
      return text.slice(0, at) + random.pick(TOKENS) + text.slice(at + random.int(3));
    }),
  (bytes, random) =>
    editJson(bytes, random, (text) => {
      const entries = text.split('},');
      const entry = random.pick(entries);
      const at = random.int(entries.length);
      entries.splice(at, random.int(2), entry);
      return entries.join('},');
    }),
  (bytes, random, files) => {
    const other = random.pick(files);
    const cut = random.int(bytes.byteLength + 1);
    return splice(bytes, cut, bytes.byteLength, other.subarray(random.int(other.byteLength + 1)));
  },
];
