/** What help and error messages say about a zod schema, taken from its JSON schema. */
import { z } from 'zod';

/** The shape of a value, as far as a command line needs to know it. */
export interface FieldKind {
  readonly type: 'string' | 'number' | 'integer' | 'boolean' | 'array' | 'object' | 'union' | 'any';
  readonly choices?: readonly (string | number | boolean | null)[];
  readonly minimum?: number;
  readonly maximum?: number;
  readonly exclusiveMinimum?: number;
  readonly exclusiveMaximum?: number;
  readonly multipleOf?: number;
  readonly minLength?: number;
  readonly pattern?: string;
  readonly items?: FieldKind;
  readonly minItems?: number;
  readonly maxItems?: number;
  readonly alternatives?: readonly FieldKind[];
  readonly default?: unknown;
}

type JsonSchema = z.core.JSONSchema.BaseSchema;

/** Reads a schema's kind. Transforms and custom types show as `any`. */
export function fieldKind(schema: z.ZodType): FieldKind {
  return fromJsonSchema(z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' }));
}

/** The kind of a list's items, or undefined for other kinds. */
export function itemKind(kind: FieldKind): FieldKind | undefined {
  return kind.type === 'array' ? kind.items : undefined;
}

function fromJsonSchema(schema: JsonSchema): FieldKind {
  const {
    minimum,
    maximum,
    exclusiveMinimum,
    exclusiveMaximum,
    multipleOf,
    minLength,
    pattern,
    minItems,
    maxItems,
  } = schema;
  const choices = schema.enum ?? (schema.const === undefined ? undefined : [schema.const]);
  const alternatives = schema.anyOf ?? schema.oneOf;
  const items =
    typeof schema.items === 'object' && !Array.isArray(schema.items)
      ? (schema.items as JsonSchema)
      : undefined;
  const kind: Record<string, unknown> = {
    type: kindType(schema, alternatives !== undefined),
    choices,
    minimum,
    maximum,
    exclusiveMinimum,
    exclusiveMaximum,
    multipleOf,
    minLength,
    pattern,
    minItems,
    maxItems,
    items: items && fromJsonSchema(items),
    alternatives: alternatives?.map((entry) => fromJsonSchema(entry as JsonSchema)),
    default: schema.default,
  };
  return Object.fromEntries(
    Object.entries(kind).filter(([, value]) => value !== undefined),
  ) as unknown as FieldKind;
}

function kindType(schema: JsonSchema, isUnion: boolean): FieldKind['type'] {
  if (isUnion) return 'union';
  switch (schema.type) {
    case 'string':
    case 'number':
    case 'integer':
    case 'boolean':
    case 'array':
    case 'object':
      return schema.type;
    default:
      return 'any';
  }
}

/** The values of a kind as a noun phrase: `an integer from 1 to 1000`, `one of "ddim", "pndm"`. */
export function describeKind(kind: FieldKind): string {
  if (kind.choices !== undefined) {
    const shown = kind.choices.map((choice) => JSON.stringify(choice));
    return shown.length === 1 ? (shown[0] as string) : `one of ${shown.join(', ')}`;
  }
  switch (kind.type) {
    case 'integer':
      return `an integer${describeRange(kind)}`;
    case 'number':
      return `a number${describeRange(kind)}`;
    case 'string':
      if (kind.pattern !== undefined) return `text matching ${kind.pattern}`;
      return (kind.minLength ?? 0) > 0 ? 'non-empty text' : 'text';
    case 'boolean':
      return 'true or false';
    case 'array':
      return describeList(kind);
    case 'object':
      return 'an object';
    case 'union':
      return (kind.alternatives ?? []).map(describeKind).join(' or ');
    default:
      return 'a valid value';
  }
}

function describeRange(kind: FieldKind): string {
  // zod adds the safe-integer bounds to every integer: nobody needs to read them.
  const low = kind.minimum === Number.MIN_SAFE_INTEGER ? undefined : kind.minimum;
  const high = kind.maximum === Number.MAX_SAFE_INTEGER ? undefined : kind.maximum;
  const parts: string[] = [];
  if (low !== undefined && high !== undefined) parts.push(`from ${low} to ${high}`);
  else if (low !== undefined) parts.push(`of at least ${low}`);
  else if (high !== undefined) parts.push(`of at most ${high}`);
  if (kind.exclusiveMinimum !== undefined) parts.push(`above ${kind.exclusiveMinimum}`);
  if (kind.exclusiveMaximum !== undefined) parts.push(`below ${kind.exclusiveMaximum}`);
  if (kind.multipleOf !== undefined) parts.push(`divisible by ${kind.multipleOf}`);
  return parts.length === 0 ? '' : ` ${parts.join(' and ')}`;
}

function describeList(kind: FieldKind): string {
  const { minItems, maxItems, items } = kind;
  let count = '';
  if (minItems !== undefined && minItems === maxItems) count = ` of ${minItems}`;
  else if (minItems !== undefined && minItems > 0)
    count = minItems === 1 ? ' (not empty)' : ` of at least ${minItems}`;
  return `a list${count}${items === undefined ? '' : `, each ${describeKind(items)}`}`;
}
