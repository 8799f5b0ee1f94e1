/**
 * JSON as Python's `json.dumps` writes it, so that configs saved here equal those diffusers, transformers
 * and PEFT save, byte for byte.
 */
import { EquipoiseError, invalid } from './errors.js';

/** A number that Python holds as a float: printed with a decimal point even when integral (`1.0`). */
export class PyFloat {
  constructor(readonly value: number) {}
}

/** Marks `value` as a Python float. */
export function pyFloat(value: number): PyFloat {
  return new PyFloat(value);
}

export type JsonValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | PyFloat
  | readonly JsonValue[]
  | { readonly [key: string]: JsonValue | undefined };

export interface PythonJsonOptions {
  /** Spaces per level; null writes one line with `', '` and `': '`, as Python does. Default 2. */
  readonly indent?: number | null;
  /** Sort object keys by code point. Default true. */
  readonly sortKeys?: boolean;
  /** End with a newline, as the config files of diffusers and transformers do. Default false. */
  readonly newline?: boolean;
}

/**
 * Python's `repr` of a float: shortest digits that read back, exponent form below 1e-4 and from 1e16 on.
 *
 * @example pythonFloat(0.00001) // '1e-05'
 */
export function pythonFloat(value: number): string {
  if (Number.isNaN(value)) return 'NaN';
  if (!Number.isFinite(value)) return value > 0 ? 'Infinity' : '-Infinity';
  if (Object.is(value, -0)) return '-0.0';
  if (value === 0) return '0.0';
  const [mantissa, exponentText] = value.toExponential().split('e') as [string, string];
  const exponent = Number(exponentText);
  if (exponent < -4 || exponent >= 16) {
    const sign = exponent < 0 ? '-' : '+';
    return `${mantissa}e${sign}${String(Math.abs(exponent)).padStart(2, '0')}`;
  }
  const negative = mantissa.startsWith('-') ? '-' : '';
  const digits = mantissa.replace('-', '').replace('.', '');
  if (exponent < 0) return `${negative}0.${'0'.repeat(-exponent - 1)}${digits}`;
  const whole = digits.slice(0, exponent + 1).padEnd(exponent + 1, '0');
  return `${negative}${whole}.${digits.slice(exponent + 1) || '0'}`;
}

const SHORT_ESCAPES: Record<string, string> = {
  '"': '\\"',
  '\\': '\\\\',
  '\b': '\\b',
  '\f': '\\f',
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
};

function pythonString(text: string): string {
  // Everything outside printable ASCII, and the two characters JSON must escape; astral characters become
  // their two surrogates, as in Python.
  const escaped = text.replace(/["\\]|[^ -~]/g, (c) => {
    return SHORT_ESCAPES[c] ?? `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`;
  });
  return `"${escaped}"`;
}

/** Orders strings by Unicode code point, as Python sorts; UTF-16 order differs above U+FFFF. */
export function compareCodePoints(a: string, b: string): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) {
    const x = a.charCodeAt(i);
    const y = b.charCodeAt(i);
    if (x === y) continue;
    const xSurrogate = x >= 0xd800 && x <= 0xdfff;
    const ySurrogate = y >= 0xd800 && y <= 0xdfff;
    if (xSurrogate !== ySurrogate) return xSurrogate ? 1 : -1;
    return x - y;
  }
  return a.length - b.length;
}

/**
 * `json.dumps(value, indent=2, sort_keys=True)`. Integral numbers print as Python ints; wrap in
 * {@link pyFloat} what Python holds as a float. Object entries that are undefined are left out.
 *
 * @throws EquipoiseError `invalid` for NaN, infinities, and values JSON has no form for
 */
export function pythonJson(value: JsonValue, options: PythonJsonOptions = {}): string {
  const indent = options.indent === undefined ? 2 : options.indent;
  const sortKeys = options.sortKeys ?? true;
  const list = (open: string, items: string[], close: string, depth: number): string => {
    if (items.length === 0) return open + close;
    if (indent === null) return open + items.join(', ') + close;
    const pad = `\n${' '.repeat(indent * (depth + 1))}`;
    return `${open}${pad}${items.join(`,${pad}`)}\n${' '.repeat(indent * depth)}${close}`;
  };
  const write = (item: JsonValue, depth: number, path: string): string => {
    if (item === null) return 'null';
    if (typeof item === 'boolean' || typeof item === 'bigint') return String(item);
    if (typeof item === 'string') return pythonString(item);
    if (typeof item === 'number' || item instanceof PyFloat) return writeNumber(item, path);
    if (Array.isArray(item)) {
      return list(
        '[',
        item.map((entry, i) => write(entry as JsonValue, depth + 1, `${path}[${i}]`)),
        ']',
        depth,
      );
    }
    if (typeof item !== 'object') throw invalid(path, 'a JSON value', item);
    const entries = Object.entries(item).filter(
      (entry): entry is [string, JsonValue] => entry[1] !== undefined,
    );
    if (sortKeys) entries.sort(([a], [b]) => compareCodePoints(a, b));
    const lines = entries.map(
      ([key, entry]) => `${pythonString(key)}: ${write(entry, depth + 1, `${path}.${key}`)}`,
    );
    return list('{', lines, '}', depth);
  };
  return write(value, 0, 'value') + (options.newline ? '\n' : '');
}

function writeNumber(item: number | PyFloat, path: string): string {
  const value = typeof item === 'number' ? item : item.value;
  if (!Number.isFinite(value)) throw invalid(path, 'a finite number (JSON has no other)', value);
  if (item instanceof PyFloat || !Number.isInteger(value) || Object.is(value, -0)) return pythonFloat(value);
  return Number.isSafeInteger(value) ? String(value) : pythonFloat(value);
}

/**
 * One-line JSON with sorted keys and nothing optional: equal values give equal text, so that it can be
 * hashed or compared.
 */
export function canonicalJson(value: unknown): string {
  if (value === null || typeof value === 'boolean' || typeof value === 'string') return JSON.stringify(value);
  if (typeof value === 'bigint') return String(value);
  if (typeof value === 'number') {
    if (!Number.isFinite(value)) throw invalid('value', 'a finite number (JSON has no other)', value);
    return JSON.stringify(value);
  }
  if (value instanceof PyFloat) return canonicalJson(value.value);
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`;
  if (typeof value === 'object') {
    const entries = Object.entries(value).filter(([, entry]) => entry !== undefined);
    entries.sort(([a], [b]) => compareCodePoints(a, b));
    return `{${entries.map(([key, entry]) => `${JSON.stringify(key)}:${canonicalJson(entry)}`).join(',')}}`;
  }
  throw invalid('value', 'a JSON value', value);
}

/**
 * `JSON.parse` with an error that names the file.
 *
 * @throws EquipoiseError `corrupt`
 */
export function parseJson(text: string, source: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new EquipoiseError('corrupt', `${source}: expected valid JSON, got a syntax error (${reason})`, {
      cause: error,
    });
  }
}
