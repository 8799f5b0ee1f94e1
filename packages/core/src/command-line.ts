/** Options of a program without commands of its own: benchmarks, trainings. */
import { parseArgs } from 'node:util';
import type { z } from 'zod';
import { invalid } from './errors.js';
import { camelCase, type OptionInfo, type OptionSet } from './options.js';

/**
 * Reads `--kebab-case value` words by a schema.
 *
 * @param print takes the list of options when `--help` is among the words
 * @param places keys of options that words without a flag fill, in order
 * @returns undefined after the help
 * @throws EquipoiseError `invalid` as {@link OptionSet.parse}, and for a word that belongs to no option
 */
export function readCommandLine<F extends Record<string, z.ZodType>>(
  schema: OptionSet<F>,
  argv: readonly string[],
  print: (text: string) => void = console.log,
  places: readonly string[] = [],
): ReturnType<OptionSet<F>['parse']> | undefined {
  const infos = schema.list();
  const flags = infos.map(({ flag, kind }) => [
    flag.slice(2),
    { type: kind.type === 'boolean' ? 'boolean' : 'string', multiple: kind.type === 'array' } as const,
  ]);
  // Not strict: the schema refuses unknown options, and names the nearest one.
  const { values, positionals } = parseArgs({
    args: [...argv],
    options: { ...Object.fromEntries(flags), help: { type: 'boolean' } },
    strict: false,
  });
  if (values.help === true) {
    print(helpText(schema.name, infos));
    return undefined;
  }
  const known = new Map(infos.map((info) => [info.flag.slice(2), info]));
  const given = Object.entries(values).map(([name, value]) => {
    const info = known.get(name);
    if (info?.flag.startsWith('--no-') === true) return [info.key, false];
    if (!Array.isArray(value)) return [camelCase(name), value];
    // A flag without a value is refused by the schema. Commas part the values of a list, unless they are taken whole.
    const texts = value.filter((item) => typeof item === 'string');
    if (texts.length < value.length) return [camelCase(name), true];
    return [camelCase(name), info?.whole === true ? texts : texts.flatMap((text) => text.split(','))];
  });
  const placed = places.slice(0, positionals.length).map((key, i) => [key, positionals[i]]);
  const options = schema.parseText(Object.fromEntries([...placed, ...given]));
  // Last: behind an unknown option stands a word that belongs to it.
  const extra = positionals[places.length];
  const expected = places.length === 0 ? 'options only' : places.join(' ').toUpperCase();
  if (extra !== undefined) throw invalid(schema.name, expected, extra);
  return options;
}

function helpText(name: string, infos: readonly OptionInfo[]): string {
  const width = Math.max(...infos.map(({ flag }) => flag.length));
  const lines = infos.map(({ flag, description, kind, required, ...info }) => {
    const note = required ? 'required' : `default ${JSON.stringify(info.default)}`;
    const silent = kind.type === 'boolean' || (!required && info.default === undefined);
    return `  ${flag.padEnd(width)}  ${description}${silent ? '' : ` (${note})`}`;
  });
  return [name, '', ...lines].join('\n');
}
