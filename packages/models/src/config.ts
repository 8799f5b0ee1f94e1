/**
 * Reading `config.json`: each model class has a schema of the options it understands. An option that would
 * change the computation in a way not built here is refused by name; a key nobody knows is kept, ignored and
 * reported.
 */
import { invalid, nearest } from '@equipoise/core';

/** Turns a JSON value into an option's value, or throws naming the option. */
export type Reader<T> = (value: unknown, name: string) => T;

export interface Field<T> {
  readonly read: Reader<T>;
  /** Value of an absent key: the class default of the reference library. */
  readonly fallback: T;
}

export interface ConfigSchema<C> {
  /** Class name as in `_class_name` or `architectures`. */
  readonly className: string;
  /** Other class names whose configs describe the same architecture. */
  readonly aliases?: readonly string[];
  /** Accepted values of `model_type` (transformers). */
  readonly modelTypes?: readonly string[];
  readonly fields: { readonly [K in keyof C]: Field<C[K]> };
  /** Options known upstream of which only these values are supported here. */
  readonly only?: Readonly<Record<string, readonly unknown[]>>;
  /** Keys that do not touch the computation. */
  readonly ignored?: readonly string[];
}

export interface ParsedConfig<C> {
  readonly config: Readonly<C>;
  /** One sentence for each key that was ignored. */
  readonly warnings: readonly string[];
  /** The JSON as it came, unknown keys included, for saving. */
  readonly source: Readonly<Record<string, unknown>>;
}

const ALWAYS_IGNORED = ['_class_name', '_diffusers_version', '_name_or_path', 'architectures', 'model_type'];

/**
 * Checks `source` against `schema`.
 *
 * @param where names the file in errors
 * @throws EquipoiseError `unsupported` or `invalid` naming the class or option
 */
export function parseConfig<C>(
  source: unknown,
  schema: ConfigSchema<C>,
  where = schema.className,
): ParsedConfig<C> {
  if (typeof source !== 'object' || source === null || Array.isArray(source)) {
    throw invalid(where, 'a JSON object', source);
  }
  const json = source as Record<string, unknown>;
  checkClass(json, schema, where);
  const config: Partial<C> = {};
  for (const key of Object.keys(schema.fields) as (keyof C & string)[]) {
    const field = schema.fields[key];
    config[key] = Object.hasOwn(json, key) ? field.read(json[key], `${where}: ${key}`) : field.fallback;
  }
  for (const [key, allowed] of Object.entries(schema.only ?? {})) {
    if (Object.hasOwn(json, key) && !allowed.some((value) => sameJson(value, json[key]))) {
      const expected = allowed.map((value) => JSON.stringify(value)).join(' or ');
      throw invalid(`${where}: ${key}`, `${expected} (other values are not supported)`, json[key], {
        code: 'unsupported',
      });
    }
  }
  return { config: config as C, warnings: unknownKeys(json, schema, where), source: json };
}

function checkClass<C>(json: Record<string, unknown>, schema: ConfigSchema<C>, where: string): void {
  const known = [schema.className, ...(schema.aliases ?? [])];
  const architectures = Array.isArray(json.architectures) ? json.architectures : [];
  const named = json._class_name ?? architectures[0];
  if (named !== undefined && !known.includes(named as string)) {
    throw invalid(`${where}: class`, known.join(' or '), named, { code: 'unsupported' });
  }
  const type = json.model_type;
  if (schema.modelTypes !== undefined && type !== undefined && !schema.modelTypes.includes(type as string)) {
    throw invalid(`${where}: model_type`, schema.modelTypes.join(' or '), type, { code: 'unsupported' });
  }
}

function unknownKeys<C>(json: Record<string, unknown>, schema: ConfigSchema<C>, where: string): string[] {
  const fields = Object.keys(schema.fields);
  const known = new Set([
    ...fields,
    ...Object.keys(schema.only ?? {}),
    ...(schema.ignored ?? []),
    ...ALWAYS_IGNORED,
  ]);
  return Object.keys(json)
    .filter((key) => !known.has(key))
    .map((key) => {
      const close = nearest(key, fields);
      return `${where}: unknown key ${JSON.stringify(key)} ignored${close ? ` (did you mean ${close}?)` : ''}`;
    });
}

function sameJson(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

/** An integer of at least `least`, and at most `most`. */
export function integer(least: number, most = Number.MAX_SAFE_INTEGER): Reader<number> {
  const range = most === Number.MAX_SAFE_INTEGER ? `of at least ${least}` : `from ${least} to ${most}`;
  return (value, name) => {
    if (!Number.isSafeInteger(value) || (value as number) < least || (value as number) > most)
      throw invalid(name, `an integer ${range}`, value);
    return value as number;
  };
}

/**
 * A number of layers in a row. Layers are made before their weights are looked for, so an absurd number must not get
 * that far; no network of these kinds has a tenth of the most.
 */
export const depth: Reader<number> = integer(1, 1000);

/** A finite number greater than zero. */
export const positive: Reader<number> = (value, name) => {
  if (typeof value !== 'number' || !Number.isFinite(value) || value <= 0)
    throw invalid(name, 'a positive number', value);
  return value;
};

export const finite: Reader<number> = (value, name) => {
  if (typeof value !== 'number' || !Number.isFinite(value)) throw invalid(name, 'a finite number', value);
  return value;
};

export const flag: Reader<boolean> = (value, name) => {
  if (typeof value !== 'boolean') throw invalid(name, 'true or false', value);
  return value;
};

/** One of the given strings; anything else is unsupported. */
export function oneOf<const S extends string>(...allowed: S[]): Reader<S> {
  return (value, name) => {
    if (!allowed.includes(value as S)) {
      throw invalid(name, allowed.map((entry) => JSON.stringify(entry)).join(' or '), value, {
        code: 'unsupported',
      });
    }
    return value as S;
  };
}

export function nullable<T>(read: Reader<T>): Reader<T | null> {
  return (value, name) => (value === null ? null : read(value, name));
}

/** A list of at least one element. */
export function listOf<T>(read: Reader<T>): Reader<readonly T[]> {
  return (value, name) => {
    if (!Array.isArray(value) || value.length === 0)
      throw invalid(name, 'a list of at least one element', value);
    return value.map((entry, index) => read(entry, `${name}[${index}]`));
  };
}

/** A single value or a list of them. */
export function oneOrMany<T>(read: Reader<T>): Reader<T | readonly T[]> {
  const many = listOf(read);
  return (value, name) => (Array.isArray(value) ? many(value, name) : read(value, name));
}

/** Spreads a value over `count` blocks, or checks that a list has one entry for each. */
export function perBlock<T>(value: T | readonly T[], count: number, name: string): readonly T[] {
  if (!Array.isArray(value)) return Array.from({ length: count }, () => value as T);
  if (value.length !== count) throw invalid(name, `${count} entries, one for each block`, value);
  return value as readonly T[];
}

/** Refuses a combination of options. */
export function requireConfig(condition: boolean, name: string, expected: string, actual: unknown): void {
  if (!condition) throw invalid(name, expected, actual);
}
