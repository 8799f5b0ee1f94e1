/**
 * Options as schemas: one declaration gives the type, the validation, and the command line's flags and help.
 *
 * ```ts
 * const generateOptions = defineOptions('generate', {
 *   steps: option(z.int().min(1).max(1000).default(50), 'Denoising steps.'),
 *   sampler: option(z.enum(['ddim', 'pndm']).default('pndm'), 'Which sampler.', { group: 'Sampling' }),
 *   eta: option(z.number().min(0).max(1).optional(), 'Stochasticity of ddim.'),
 * }, (options, name) => {
 *   if (options.eta !== undefined && options.sampler !== 'ddim') {
 *     throw invalid(name('eta'), 'nothing unless the sampler is ddim', options.eta);
 *   }
 * });
 * type GenerateOptions = OptionsOf<typeof generateOptions>;
 * ```
 */
import { z } from 'zod';
import { EquipoiseError, expectedMessage, prose } from './errors.js';
import { nearest } from './nearest.js';
import { describeKind, type FieldKind, fieldKind, itemKind } from './option-kinds.js';

export interface OptionMeta {
  /** One or two sentences for help. */
  readonly description: string;
  /** Heading the option is listed under. */
  readonly group?: string;
  /** What stands for the value in help: `<path>`; derived from the type when absent. */
  readonly placeholder?: string;
  /** One-letter flag. */
  readonly short?: string;
  /** Key it had before: whoever gives that one is told of this one. */
  readonly formerly?: string;
  /** Kept out of help. */
  readonly hidden?: boolean;
  /** For lists of free text: a command line takes each value as it is, commas included; more come from repeated flags. */
  readonly whole?: boolean;
}

const metadata = z.registry<OptionMeta>();

/** A zod schema with a description and layout hints. It is a copy: options may share a schema and keep their own texts. */
export function option<S extends z.ZodType>(
  schema: S,
  description: string,
  meta: Omit<OptionMeta, 'description'> = {},
): S {
  const own = schema.clone();
  metadata.add(own, { ...meta, description });
  return own;
}

/** Everything help needs to know about one option. */
export interface OptionInfo extends OptionMeta {
  readonly key: string;
  /** `--kebab-case`, or `--no-kebab-case` for a boolean that is true by default. */
  readonly flag: string;
  readonly kind: FieldKind;
  /** The values allowed, as a noun phrase: `an integer from 1 to 1000`. */
  readonly expected: string;
  readonly required: boolean;
  readonly default: unknown;
}

/** Where the values come from: decides how an option is named in errors. */
export type OptionSource = 'arguments' | 'flags';

type Fields = Record<string, z.ZodType>;
type Output<F extends Fields> = z.output<z.ZodObject<F, z.core.$strict>>;

/** Refuses combinations of values; `name(key)` gives the option's name as the user wrote it. */
export type OptionCheck<F extends Fields> = (
  options: Output<F>,
  name: (key: keyof F & string) => string,
) => void;

/** A named set of options; see {@link defineOptions}. */
export class OptionSet<F extends Fields> {
  readonly #schema: z.ZodObject<F, z.core.$strict>;
  readonly #checks: readonly OptionCheck<F>[];

  constructor(
    readonly name: string,
    readonly fields: F,
    checks: readonly OptionCheck<F>[],
  ) {
    this.#schema = z.strictObject(fields);
    this.#checks = checks;
  }

  /**
   * Validates, fills in defaults and freezes.
   *
   * @throws EquipoiseError `invalid` listing every problem, one line each: option, expected, actual
   */
  parse(input: unknown, source: OptionSource = 'arguments'): Output<F> {
    const result = this.#schema.safeParse(input ?? {});
    if (!result.success) throw this.#refusal(result.error, input, source);
    for (const check of this.#checks) check(result.data, (key) => this.nameOf(key, source));
    Object.freeze(result.data);
    return result.data;
  }

  /**
   * {@link parse} for text from a command line: numbers, booleans and lists (repeated or comma-separated)
   * are converted by each option's type first. Keys are option keys, not flags.
   */
  parseText(input: Readonly<Record<string, string | boolean | readonly string[] | undefined>>): Output<F> {
    const values: Record<string, unknown> = {};
    for (const [key, value] of Object.entries(input)) {
      if (value === undefined) continue;
      const field = Object.hasOwn(this.fields, key) ? this.fields[key] : undefined;
      values[key] = field === undefined ? value : fromText(value, fieldKind(field));
    }
    return this.parse(values, 'flags');
  }

  /** The options in declaration order. */
  list(): OptionInfo[] {
    return Object.entries(this.fields).map(([key, field]) => {
      const kind = fieldKind(field);
      const negated = kind.type === 'boolean' && kind.default === true;
      return {
        description: '',
        ...metadata.get(field),
        key,
        flag: `--${negated ? 'no-' : ''}${kebabCase(key)}`,
        kind,
        expected: describeKind(kind),
        required: !field.safeParse(undefined).success,
        default: kind.default,
      };
    });
  }

  /** The option's name as users of `source` write it. */
  nameOf(key: string, source: OptionSource): string {
    return source === 'flags' ? `--${kebabCase(key)}` : `${this.name}: ${key}`;
  }

  /** A set with the fields and checks of both; used to share groups of options between commands. */
  extend<G extends Fields>(name: string, fields: G, ...checks: OptionCheck<F & G>[]): OptionSet<F & G> {
    const inherited = this.#checks as readonly OptionCheck<Fields>[] as readonly OptionCheck<F & G>[];
    return new OptionSet<F & G>(name, { ...this.fields, ...fields }, [...inherited, ...checks]);
  }

  /** The option that once had this key. */
  #renamed(former: string): string | undefined {
    return Object.keys(this.fields).find(
      (key) => metadata.get(this.fields[key] as z.ZodType)?.formerly === former,
    );
  }

  #refusal(error: z.ZodError, input: unknown, source: OptionSource): EquipoiseError {
    const hints: string[] = [];
    const lines = error.issues.flatMap((issue) => {
      const [key, ...rest] = issue.path;
      if (issue.code === 'unrecognized_keys' && issue.path.length === 0) {
        return issue.keys.map((unknown) => {
          const closest = this.#renamed(unknown) ?? nearest(unknown, Object.keys(this.fields));
          if (closest === undefined)
            hints.push(`Known: ${Object.keys(this.fields).map(kebabCase).join(', ')}.`);
          else hints.push(`Did you mean ${this.nameOf(closest, source)}?`);
          return expectedMessage(this.nameOf(unknown, source), 'a known option', prose('an unknown one'));
        });
      }
      if (key === undefined) return [expectedMessage(this.name, 'an object of options', input)];
      const name = this.nameOf(String(key), source) + rest.map((part) => `[${String(part)}]`).join('');
      const field = this.fields[String(key)] as z.ZodType;
      const kind = rest.length === 0 ? fieldKind(field) : itemKind(fieldKind(field));
      const expected = issue.code === 'custom' || kind === undefined ? issue.message : describeKind(kind);
      return [expectedMessage(name, expected, valueAt(input, issue.path))];
    });
    return new EquipoiseError('invalid', [...new Set(lines)].join('\n'), { hints: [...new Set(hints)] });
  }
}

/** The validated type of a set of options, defaults filled in. */
export type OptionsOf<S> = S extends OptionSet<infer F> ? Output<F> : never;
/** What a caller may pass: options with defaults may be left out. */
export type OptionsInput<S> = S extends OptionSet<infer F> ? z.input<z.ZodObject<F, z.core.$strict>> : never;

/** Declares a set of options; unknown keys are refused, with the nearest known one named. */
export function defineOptions<F extends Fields>(
  name: string,
  fields: F,
  ...checks: OptionCheck<F>[]
): OptionSet<F> {
  return new OptionSet(name, fields, checks);
}

/** `guidanceScale` to `guidance-scale`. */
export function kebabCase(key: string): string {
  return key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

/** `guidance-scale` to `guidanceScale`. */
export function camelCase(flag: string): string {
  return flag.replace(/-([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
}

function valueAt(input: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>(
    (value, key) => (value as Record<PropertyKey, unknown> | undefined)?.[key],
    input,
  );
}

/** Converts text by kind; what does not convert is left for the schema to refuse with the original text. */
function fromText(value: string | boolean | readonly string[], kind: FieldKind): unknown {
  if (kind.type === 'array') {
    if (typeof value === 'boolean') return value;
    const parts = typeof value === 'string' ? value.split(',') : value;
    return parts.map((part) => (kind.items === undefined ? part : fromText(part.trim(), kind.items)));
  }
  if (typeof value !== 'string') return value;
  if (kind.type === 'boolean') return value === 'true' ? true : value === 'false' ? false : value;
  if (kind.type !== 'number' && kind.type !== 'integer') return value;
  const number = value.trim() === '' ? Number.NaN : Number(value);
  return Number.isNaN(number) ? value : number;
}
