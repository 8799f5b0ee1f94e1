/** Options of a program without commands of its own: benchmarks, trainings. */
import { parseArgs } from 'node:util';
import type { z } from 'zod';
import { invalid } from './errors.js';
import { camelCase, type OptionInfo, type OptionSet } from './options.js';

/**
 * Reads `--kebab-case value` words by a schema.
 *
 * @param print takes the list of options when `--help` is among the words
 * @returns undefined after the help
 * @throws EquipoiseError `invalid` as {@link OptionSet.parse}, and for a word that belongs to no option
 */
export function readCommandLine<F extends Record<string, z.ZodType>>(
  schema: OptionSet<F>,
  argv: readonly string[],
  print: (text: string) => void = console.log,
): ReturnType<OptionSet<F>['parse']> | undefined {
  const infos = schema.list();
  const flags = infos.map(({ flag, kind }) => [
    flag.slice(2),
    { type: kind.type === 'boolean' ? 'boolean' : 'string' } as const,
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
  const negated = new Set(
    infos.filter(({ flag }) => flag.startsWith('--no-')).map(({ flag }) => flag.slice(2)),
  );
  const options = schema.parseText(
    Object.fromEntries(
      Object.entries(values).map(([name, value]) =>
        negated.has(name) ? [camelCase(name.slice('no-'.length)), false] : [camelCase(name), value],
      ),
    ),
  );
  // Last: behind an unknown option stands a word that belongs to it.
  if (positionals.length > 0) throw invalid(schema.name, 'options only', positionals[0]);
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
