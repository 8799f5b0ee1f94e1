/** `Attribute=Category` and `Attribute=Category=share` on the command line. */
import { invalid } from '@equipoise/core';

interface Classes {
  readonly name: string;
  readonly categories: readonly string[];
}

/**
 * Shares of every attribute's categories; attributes that nothing is said of are even. Categories not named share what
 * is left evenly.
 *
 * @param only `Attribute=Category`: the one category to draw
 * @param shares `Attribute=Category=share`
 * @throws EquipoiseError for names that do not exist, shares outside 0 to 1, sums that are not 1 or leave nothing
 */
export function categoryShares(
  attributes: readonly Classes[],
  shares: readonly string[],
  only: readonly string[] = [],
): Map<string, readonly number[]> {
  const wanted = new Map<string, Map<string, number>>();
  for (const text of only) {
    const { attribute, category } = named(attributes, text, '--only');
    if (wanted.has(attribute)) throw invalid('--only', `one category of ${attribute}`, text);
    wanted.set(attribute, new Map([[category, 1]]));
  }
  for (const text of shares) {
    const { attribute, category, rest } = named(attributes, text, '--shares');
    const value = rest === undefined || rest.trim() === '' ? Number.NaN : Number(rest);
    if (!(value >= 0 && value <= 1))
      throw invalid('--shares', 'Attribute=Category=share with a share from 0 to 1', text);
    const own = wanted.get(attribute) ?? new Map<string, number>();
    if (own.has(category))
      throw invalid('--shares', `${attribute}=${category} once, and not with --only`, text);
    wanted.set(attribute, own.set(category, value));
  }
  return new Map(attributes.map((own) => [own.name, completed(own, wanted.get(own.name))]));
}

function named(
  attributes: readonly Classes[],
  text: string,
  option: string,
): { attribute: string; category: string; rest: string | undefined } {
  const [attribute = '', category = '', rest] = text.split('=');
  const own = attributes.find(({ name }) => name === attribute);
  if (own === undefined)
    throw invalid(
      option,
      `Attribute=Category with one of ${attributes.map(({ name }) => name).join(', ')}`,
      text,
    );
  if (!own.categories.includes(category))
    throw invalid(option, `${attribute}= with one of ${own.categories.join(', ')}`, text);
  return { attribute, category, rest };
}

function completed({ name, categories }: Classes, given: ReadonlyMap<string, number> | undefined): number[] {
  if (given === undefined) return categories.map(() => 1 / categories.length);
  const sum = [...given.values()].reduce((a, b) => a + b, 0);
  const open = categories.length - given.size;
  if (sum > 1 + 1e-9) throw invalid('--shares', `shares of ${name} that sum to at most 1`, sum);
  if (open === 0 && Math.abs(sum - 1) > 1e-6)
    throw invalid('--shares', `shares of ${name} that sum to 1`, sum);
  return categories.map((category) => given.get(category) ?? Math.max(0, 1 - sum) / open);
}

/** Share of each combination, attributes taken as independent. */
export function combinationShares(
  labels: readonly Readonly<Record<string, string>>[],
  attributes: readonly Classes[],
  shares: ReadonlyMap<string, readonly number[]>,
): number[] {
  return labels.map((own) =>
    attributes.reduce((product, { name, categories }) => {
      const index = categories.indexOf(own[name] as string);
      return product * (shares.get(name)?.[index] as number);
    }, 1),
  );
}
