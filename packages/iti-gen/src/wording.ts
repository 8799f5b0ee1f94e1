/**
 * Categories as words of a prompt: the alternatives to inclusive tokens. `hard` prompts name what is there and leave
 * absences unsaid, as captions do; `negated` prompts also say "without" (the published comparison's hard prompts).
 */
import { invalid, prose } from '@equipoise/core';
import { combinations } from './attributes.js';
import { isMapping, readMapping } from './mapping.js';

/** How one category is said; the empty object where no word exists for it. */
export interface CategoryWords {
  /** After "with": "eyeglasses". */
  readonly with?: string;
  /** Before the prompt's last word: "smiling". */
  readonly before?: string;
  /** After "without", in negated prompts only: "eyeglasses". */
  readonly without?: string;
}

/** Words by attribute and category. */
export type Wording = Readonly<Record<string, Readonly<Record<string, CategoryWords>>>>;

export const WORDINGS = ['hard', 'negated'] as const;
export type WordingKind = (typeof WORDINGS)[number];

/** One prompt per combination of the attributes' categories, in the order of {@link combinations}. */
export function wordedPrompts(
  prompt: string,
  wording: Wording,
  attributes: readonly { readonly name: string; readonly categories: readonly string[] }[],
  kind: WordingKind,
): string[] {
  return combinations(attributes.map(({ categories }) => categories.length)).map((indices) =>
    wordedPrompt(
      prompt,
      attributes.map(({ name, categories }, a) =>
        wordsOf(wording, name, categories[indices[a] as number] as string),
      ),
      kind,
    ),
  );
}

function wordsOf(wording: Wording, attribute: string, category: string): CategoryWords {
  const words = wording[attribute]?.[category];
  if (words === undefined)
    throw invalid('wording', `words for ${attribute}: ${category}`, prose('none'), { code: 'missing' });
  return words;
}

function wordedPrompt(prompt: string, words: readonly CategoryWords[], kind: WordingKind): string {
  const said = (key: keyof CategoryWords): string[] => words.flatMap((own) => own[key] ?? []);
  const parts = [
    prefixed(prompt, said('before')),
    phrase('with', said('with')),
    phrase('without', kind === 'negated' ? said('without') : []),
  ];
  return parts.filter((part) => part !== '').join(' ');
}

/** "a headshot of a person" and "old" give "a headshot of an old person". */
function prefixed(prompt: string, adjectives: readonly string[]): string {
  const [first] = adjectives;
  if (first === undefined) return prompt;
  const words = prompt.split(' ');
  const last = words.pop() as string;
  if (words.at(-1) === 'a' || words.at(-1) === 'an')
    words[words.length - 1] = /^[aeiou]/i.test(first) ? 'an' : 'a';
  return [...words, ...adjectives, last].join(' ');
}

/** "with a, b and c"; empty without items. */
function phrase(preposition: string, items: readonly string[]): string {
  if (items.length === 0) return '';
  return `${preposition} ${[items.slice(0, -1).join(', '), items.at(-1)].filter(Boolean).join(' and ')}`;
}

/**
 * Reads a wording from JSON or YAML: `{Eyeglasses: {with: {with: eyeglasses}, without: {without: eyeglasses}}}`.
 *
 * @throws EquipoiseError `missing` or `corrupt`, naming the place
 */
export async function readWording(file: string): Promise<Wording> {
  const wording = await readMapping(file);
  for (const [attribute, categories] of Object.entries(wording)) {
    if (!isMapping(categories))
      throw invalid(`${file}: ${attribute}`, 'a mapping from category to words', categories);
    for (const [category, words] of Object.entries(categories)) {
      const where = `${file}: ${attribute}.${category}`;
      if (!isMapping(words)) throw invalid(where, 'a mapping with "with", "before" or "without"', words);
      for (const [key, text] of Object.entries(words)) {
        if (!['with', 'before', 'without'].includes(key))
          throw invalid(where, '"with", "before" or "without"', key);
        if (typeof text !== 'string' || text.trim() === '') throw invalid(`${where}.${key}`, 'text', text);
      }
    }
  }
  return wording as Wording;
}

/** Texts of the classes for zero-shot classification: `{Age: {young: "a photo of a young person", old: ...}}`. */
export type ClassTexts = Readonly<Record<string, Readonly<Record<string, string>>>>;

/** @throws EquipoiseError `missing`, `corrupt` or `invalid`, naming the place */
export async function readClassTexts(file: string): Promise<ClassTexts> {
  const classes = await readMapping(file);
  if (Object.keys(classes).length === 0) throw invalid(file, 'at least one attribute', prose('none'));
  for (const [attribute, categories] of Object.entries(classes)) {
    if (!isMapping(categories) || Object.keys(categories).length < 2)
      throw invalid(`${file}: ${attribute}`, 'a mapping from at least two categories to texts', categories);
    for (const [category, text] of Object.entries(categories))
      if (typeof text !== 'string' || text.trim() === '')
        throw invalid(`${file}: ${attribute}.${category}`, 'a text', text);
  }
  return classes as ClassTexts;
}
