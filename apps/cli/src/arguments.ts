/** From words on a command line to the raw values of an option set, which validates them. */
import { parseArgs } from 'node:util';
import { camelCase, invalid, kebabCase, type OptionInfo, prose } from '@equipoise/core';

export type RawOptions = Record<string, string | boolean | string[]>;

interface Declaration {
  readonly key: string;
  readonly info: OptionInfo;
  readonly negated: boolean;
}

/**
 * Splits words into raw option values. Unknown flags are kept under their own name: the option set refuses them and
 * names the nearest known one. Lists may be repeated; anything else given twice is refused.
 *
 * @param options the command's options, from `OptionSet.list()`
 * @param positionals keys filled by words that are not flags
 */
export function parseWords(
  words: readonly string[],
  options: readonly OptionInfo[],
  positionals: readonly string[],
): RawOptions {
  const flags = declare(options);
  const config: Record<string, { type: 'string' | 'boolean'; short?: string }> = {};
  for (const [flag, { info }] of flags) {
    const type = info.kind.type === 'boolean' ? 'boolean' : 'string';
    const short = info.short !== undefined && !flag.startsWith('no-') ? { short: info.short } : {};
    config[flag] = { type, ...short };
  }
  const { tokens } = parseArgs({
    args: [...words],
    options: config,
    strict: false,
    allowPositionals: true,
    tokens: true,
  });
  const values: RawOptions = {};
  const places: string[] = [];
  let unknown = false;
  for (const token of tokens) {
    if (token.kind === 'positional') places.push(token.value);
    if (token.kind === 'option') {
      unknown ||= !flags.has(token.name);
      setOption(values, flags.get(token.name), token);
    }
  }
  const extra = fillPositionals(values, places, options, positionals);
  // A word too many may be the value of an unknown flag, which is what the reader has to know of.
  if (extra !== undefined && !unknown) {
    const names = positionals.map((key) => `<${kebabCase(key)}>`).join(' ');
    throw invalid('arguments', names === '' ? 'options only' : names, extra);
  }
  return values;
}

/** Flags without their dashes. Booleans can be said and denied, whatever their default. */
function declare(options: readonly OptionInfo[]): Map<string, Declaration> {
  const flags = new Map<string, Declaration>();
  for (const info of options) {
    const name = kebabCase(info.key);
    flags.set(name, { key: info.key, info, negated: false });
    if (info.kind.type === 'boolean') flags.set(`no-${name}`, { key: info.key, info, negated: true });
  }
  return flags;
}

interface OptionToken {
  readonly name: string;
  readonly rawName: string;
  readonly value?: string | undefined;
  readonly inlineValue?: boolean | undefined;
}

function setOption(values: RawOptions, declaration: Declaration | undefined, token: OptionToken): void {
  const key = declaration?.key ?? camelCase(token.name);
  const { value } = token;
  if (declaration === undefined) {
    values[key] = value ?? true;
    return;
  }
  const { info, negated } = declaration;
  const isList = info.kind.type === 'array';
  if (!isList && Object.hasOwn(values, key))
    throw invalid(token.rawName, 'to be given once', prose('it twice'));
  if (info.kind.type === 'boolean') {
    if (value !== undefined && negated) throw invalid(token.rawName, 'no value', value);
    values[key] = value ?? !negated;
    return;
  }
  // A flag in the place of a value is a forgotten value; negative numbers start with one dash.
  if (value === undefined || (!token.inlineValue && value.startsWith('--')))
    throw invalid(token.rawName, info.expected, value);
  const items = info.whole ? [value] : splitList(value);
  values[key] = isList ? [...((values[key] as string[] | undefined) ?? []), ...items] : value;
}

function splitList(value: string): string[] {
  return value === '' ? [] : value.split(',').map((part) => part.trim());
}

/** Gives the first word that has no place. */
function fillPositionals(
  values: RawOptions,
  places: string[],
  options: readonly OptionInfo[],
  positionals: readonly string[],
): string | undefined {
  const words = [...places];
  for (const key of positionals) {
    const [word] = words;
    if (word === undefined) break;
    if (Object.hasOwn(values, key))
      throw invalid(`--${kebabCase(key)}`, 'to be given once', prose(`it and "${word}"`));
    const isList = options.find((info) => info.key === key)?.kind.type === 'array';
    values[key] = isList ? words.splice(0) : (words.shift() as string);
  }
  return words[0];
}

/**
 * The words of a command that runs another one, with `--` before the first that is neither a flag nor a flag's value:
 * from there on flags are the other's.
 */
export function setApart(words: readonly string[], options: readonly OptionInfo[]): string[] {
  const bare = new Set(['help', 'h']);
  for (const { key, kind } of options)
    if (kind.type === 'boolean') bare.add(kebabCase(key)).add(`no-${kebabCase(key)}`);
  let own = 0;
  while (own < words.length) {
    const word = words[own] as string;
    if (word === '--') return [...words];
    if (!word.startsWith('-')) break;
    own += word.includes('=') || bare.has(word.replace(/^-+/, '')) ? 1 : 2;
  }
  return [...words.slice(0, own), '--', ...words.slice(own)];
}
