/**
 * Headers of safetensors files: `u64 N (little-endian) | N bytes of JSON | data`. Reading checks everything
 * the format promises, so that whoever holds a parsed header can read any tensor without further checks.
 */
import {
  compareCodePoints,
  EquipoiseError,
  invalid,
  JsonNumber,
  parseStrictJson,
  prose,
  type StrictJson,
} from '@equipoise/core';
import { byteLengthOf, checkDType, type DType, rankOf } from './dtypes.js';

/** Limit of the reference implementation. */
export const MAX_HEADER_BYTES = 100_000_000;
/** No tensor library has more dimensions than numpy's 64; a header that does is absurd. */
const MAX_RANK = 64;
const PREFIX_BYTES = 8;

export interface TensorInfo {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
  /** First byte, counted from the start of the data. */
  readonly begin: number;
  /** One past the last byte. */
  readonly end: number;
}

export interface Header {
  /** In the order of the data. */
  readonly tensors: readonly TensorInfo[];
  readonly metadata: ReadonlyMap<string, string>;
  /** Where the data starts in the file. */
  readonly dataOffset: number;
}

/**
 * Reads the eight-byte prefix.
 *
 * @param prefix the first bytes of the file; fewer than eight when the file is shorter
 * @returns bytes of JSON that follow
 * @throws EquipoiseError `corrupt`
 */
export function parsePrefix(prefix: Uint8Array, fileBytes: number, source: string): number {
  if (fileBytes < PREFIX_BYTES || prefix.byteLength < PREFIX_BYTES) {
    throw invalid(`${source}: header`, 'at least 8 bytes', prose(`a file of ${fileBytes} bytes`), {
      code: 'corrupt',
    });
  }
  const view = new DataView(prefix.buffer, prefix.byteOffset, PREFIX_BYTES);
  const length = view.getBigUint64(0, true);
  if (length > BigInt(MAX_HEADER_BYTES)) {
    throw invalid(`${source}: header length`, `at most ${MAX_HEADER_BYTES} bytes`, length, {
      code: 'corrupt',
    });
  }
  if (length === 0n) throw invalid(`${source}: header length`, 'at least 2 bytes', 0, { code: 'corrupt' });
  const n = Number(length);
  if (PREFIX_BYTES + n > fileBytes) {
    const actual = prose(`a header of ${n} bytes in a file of ${fileBytes}`);
    throw invalid(`${source}: header length`, 'a header inside the file', actual, { code: 'corrupt' });
  }
  return n;
}

/**
 * Parses and validates the JSON part.
 *
 * @param json the N bytes after the prefix
 * @param fileBytes size of the whole file
 * @throws EquipoiseError `corrupt`, naming file, tensor, field, expected and actual
 */
export function parseHeader(json: Uint8Array, fileBytes: number, source: string): Header {
  const root = parseStrictJson(decode(json, source), `${source}: header`);
  if (!(root instanceof Map))
    throw invalid(`${source}: header`, 'a JSON object', prose(kindOf(root)), { code: 'corrupt' });
  const dataOffset = PREFIX_BYTES + json.byteLength;
  const tensors: TensorInfo[] = [];
  for (const [name, entry] of root) {
    if (name !== '__metadata__') tensors.push(parseEntry(name, entry, source));
  }
  tensors.sort((a, b) => a.begin - b.begin || a.end - b.end);
  checkCoverage(tensors, fileBytes - dataOffset, source);
  return { tensors, metadata: parseMetadata(root.get('__metadata__'), source), dataOffset };
}

function decode(json: Uint8Array, source: string): string {
  try {
    // ignoreBOM keeps a byte order mark in the text, where the JSON reader refuses it.
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(json);
  } catch (cause) {
    throw new EquipoiseError('corrupt', `${source}: header: expected UTF-8 text, got bytes that are not`, {
      cause,
    });
  }
}

function parseMetadata(value: StrictJson | undefined, source: string): Map<string, string> {
  const metadata = new Map<string, string>();
  if (value === undefined || value === null) return metadata;
  const name = `${source}: __metadata__`;
  if (!(value instanceof Map))
    throw invalid(name, 'an object or null', prose(kindOf(value)), { code: 'corrupt' });
  for (const [key, entry] of value) {
    if (typeof entry !== 'string') {
      throw invalid(`${name}: ${JSON.stringify(key)}`, 'text', prose(kindOf(entry)), { code: 'corrupt' });
    }
    metadata.set(key, entry);
  }
  return metadata;
}

function parseEntry(name: string, entry: StrictJson, source: string): TensorInfo {
  const where = `${source}: tensor ${JSON.stringify(name)}`;
  if (!(entry instanceof Map)) throw invalid(where, 'an object', prose(kindOf(entry)), { code: 'corrupt' });
  const dtype = checkDType(where, plain(entry.get('dtype')));
  const shape = parseUnsigned(`${where}: shape`, entry.get('shape'));
  if (shape.length > MAX_RANK) {
    throw invalid(`${where}: shape`, `at most ${MAX_RANK} dimensions`, shape.length, { code: 'corrupt' });
  }
  const offsets = parseUnsigned(`${where}: data_offsets`, entry.get('data_offsets'));
  if (offsets.length !== 2)
    throw invalid(`${where}: data_offsets`, 'two numbers', offsets, { code: 'corrupt' });
  const [begin, end] = offsets as [number, number];
  if (begin > end) throw invalid(`${where}: data_offsets`, 'begin <= end', offsets, { code: 'corrupt' });
  const byteLength = byteLengthOf(where, dtype, shape);
  if (end - begin !== byteLength) {
    const expected = `${byteLength} bytes for ${dtype} [${shape.join(', ')}]`;
    throw invalid(`${where}: data_offsets`, expected, end - begin, { code: 'corrupt' });
  }
  return { name, dtype, shape: Object.freeze(shape), begin, end };
}

function parseUnsigned(name: string, value: StrictJson | undefined): number[] {
  if (!Array.isArray(value)) throw invalid(name, 'a list', prose(kindOf(value)), { code: 'corrupt' });
  return value.map((item, i) => {
    const number = item instanceof JsonNumber ? item.toUnsigned() : undefined;
    if (number !== undefined) return number;
    const actual = item instanceof JsonNumber ? prose(item.text) : plain(item);
    throw invalid(`${name}[${i}]`, 'an integer from 0 to 2^53 - 1', actual, { code: 'corrupt' });
  });
}

/** The data must be covered by the tensors exactly: from byte 0, without holes or overlaps, to the end. */
function checkCoverage(tensors: readonly TensorInfo[], dataBytes: number, source: string): void {
  let covered = 0;
  let previous: TensorInfo | undefined;
  for (const tensor of tensors) {
    const name = `${source}: tensor ${JSON.stringify(tensor.name)}: data_offsets`;
    if (tensor.begin > covered) {
      const expected =
        previous === undefined ? 'data that starts at byte 0' : `no hole after byte ${covered}`;
      throw invalid(name, expected, prose(`a start at ${tensor.begin}`), { code: 'corrupt' });
    }
    if (tensor.begin < covered) {
      const other = JSON.stringify(previous?.name);
      throw invalid(
        name,
        `no overlap with ${other}, which ends at ${covered}`,
        prose(`a start at ${tensor.begin}`),
        {
          code: 'corrupt',
        },
      );
    }
    covered = tensor.end;
    previous = tensor;
  }
  if (covered > dataBytes) {
    throw invalid(`${source}: data`, `${covered} bytes`, prose(`${dataBytes}; the file is cut short`), {
      code: 'corrupt',
    });
  }
  if (covered < dataBytes) {
    throw invalid(`${source}: data`, `${covered} bytes`, prose(`${dataBytes}; no tensor covers the rest`), {
      code: 'corrupt',
    });
  }
}

function plain(value: StrictJson | undefined): unknown {
  if (value instanceof JsonNumber) return prose(value.text);
  return value instanceof Map || Array.isArray(value) ? prose(kindOf(value)) : value;
}

function kindOf(value: StrictJson | undefined): string {
  if (value === undefined) return 'nothing';
  if (value === null) return 'null';
  if (value instanceof Map) return 'an object';
  if (Array.isArray(value)) return 'a list';
  if (value instanceof JsonNumber) return `the number ${value.text}`;
  return typeof value === 'string' ? 'text' : String(value);
}

/** Order of tensors in a file: higher type rank first, then by name (code points, which is UTF-8's order). */
export function compareTensors(
  a: Pick<TensorInfo, 'name' | 'dtype'>,
  b: Pick<TensorInfo, 'name' | 'dtype'>,
): number {
  return rankOf(b.dtype) - rankOf(a.dtype) || compareCodePoints(a.name, b.name);
}

/**
 * Builds prefix and header for tensors in file order, padded with spaces so that the data start is a multiple
 * of eight.
 */
export function buildHeader(
  tensors: readonly {
    readonly name: string;
    readonly dtype: DType;
    readonly shape: readonly number[];
    readonly byteLength: number;
  }[],
  metadata: ReadonlyMap<string, string>,
): Uint8Array {
  const members: string[] = [];
  if (metadata.size > 0) {
    const sorted = [...metadata].sort(([a], [b]) => compareCodePoints(a, b));
    members.push(`"__metadata__":{${sorted.map(([key, text]) => `${quote(key)}:${quote(text)}`).join(',')}}`);
  }
  let offset = 0;
  for (const { name, dtype, shape, byteLength } of tensors) {
    const end = offset + byteLength;
    members.push(
      `${quote(name)}:{"dtype":"${dtype}","shape":[${shape.join(',')}],"data_offsets":[${offset},${end}]}`,
    );
    offset = end;
  }
  const json = new TextEncoder().encode(`{${members.join(',')}}`);
  const length = Math.ceil(json.byteLength / 8) * 8;
  if (length > MAX_HEADER_BYTES) throw invalid('header', `at most ${MAX_HEADER_BYTES} bytes`, length);
  const header = new Uint8Array(PREFIX_BYTES + length).fill(0x20);
  new DataView(header.buffer).setBigUint64(0, BigInt(length), true);
  header.set(json, PREFIX_BYTES);
  return header;
}

function quote(text: string): string {
  if (/\p{Surrogate}/u.test(text)) throw invalid('name', 'text without lone surrogates', text);
  return JSON.stringify(text);
}
