/**
 * Attributes and their reference images: a folder per attribute with a folder per category, or a manifest.
 * Attributes are independent of each other: each has images of its own (marginal data sets).
 */
import fs from 'node:fs/promises';
import path from 'node:path';
import {
  EquipoiseError,
  invalid,
  type JobContext,
  PhiloxSequence,
  prose,
  sha256File,
  streamId,
  throwIfCancelled,
} from '@equipoise/core';
import { parse as parseYaml } from 'yaml';

export interface ReferenceImage {
  readonly file: string;
  /** sha256 of the file's bytes. */
  readonly hash: string;
}

export interface Category {
  readonly name: string;
  readonly images: readonly ReferenceImage[];
}

export interface Attribute {
  readonly name: string;
  readonly categories: readonly Category[];
}

/** Files as they are found, before hashing. */
export interface AttributeFiles {
  readonly name: string;
  readonly categories: readonly { readonly name: string; readonly files: readonly string[] }[];
}

const IMAGE = /\.(jpe?g|png|webp|tiff?|gif|avif)$/i;

async function list(folder: string, what: string): Promise<import('node:fs').Dirent[]> {
  try {
    const entries = await fs.readdir(folder, { withFileTypes: true });
    // Numbers by value, so that a category "10_19" follows "3_9".
    return entries.sort((a, b) => a.name.localeCompare(b.name, 'en', { numeric: true }));
  } catch (cause) {
    throw new EquipoiseError('missing', `${what}: ${folder} is not a readable folder`, { cause });
  }
}

async function imagesIn(folder: string, what: string): Promise<string[]> {
  const entries = await list(folder, what);
  return entries.filter((e) => e.isFile() && IMAGE.test(e.name)).map((e) => path.join(folder, e.name));
}

/**
 * Attributes as folders: `root/<Attribute>/<Category>/*.{jpg,png,...}` (the layout of ITI-GEN's data).
 *
 * @param names which attributes, in order; all folders of `root` if empty
 */
export async function findAttributes(root: string, names: readonly string[]): Promise<AttributeFiles[]> {
  const folders = (await list(root, 'data')).filter((e) => e.isDirectory()).map((e) => e.name);
  const repeated = names.find((name, i) => names.indexOf(name) !== i);
  if (repeated !== undefined)
    throw invalid('attributes', 'each attribute once', prose(`"${repeated}" twice`));
  const found: AttributeFiles[] = [];
  for (const name of names.length > 0 ? names : folders) {
    if (!folders.includes(name))
      throw invalid('attributes', `one of ${folders.join(', ') || 'no folder there'}`, name, {
        code: 'missing',
      });
    const folder = path.join(root, name);
    const categories = (await list(folder, `attribute ${name}`)).filter((e) => e.isDirectory());
    found.push({
      name,
      categories: await Promise.all(
        categories.map(async (c) => ({
          name: c.name,
          files: await imagesIn(path.join(folder, c.name), `attribute ${name}`),
        })),
      ),
    });
  }
  return found;
}

/**
 * Attributes from a JSON or YAML file: `{attributes: [{name, categories: [{name, images: [file or folder, ...]}]}]}`,
 * paths relative to the file.
 */
export async function readAttributeManifest(file: string): Promise<AttributeFiles[]> {
  let document: unknown;
  try {
    document = parseYaml(await fs.readFile(file, 'utf8'));
  } catch (cause) {
    throw new EquipoiseError('corrupt', `${file}: ${(cause as Error).message.split('\n')[0]}`, { cause });
  }
  const attributes = field(document, 'attributes', file);
  return Promise.all(
    attributes.map(async (attribute, i) => {
      const where = `${file}: attributes[${i}]`;
      const categories = field(attribute, 'categories', where);
      return {
        name: text(attribute, where),
        categories: await Promise.all(
          categories.map((c, k) => manifestCategory(c, `${where}.categories[${k}]`, path.dirname(file))),
        ),
      };
    }),
  );
}

async function manifestCategory(
  category: unknown,
  where: string,
  base: string,
): Promise<{ name: string; files: string[] }> {
  const files: string[] = [];
  for (const entry of field(category, 'images', where)) {
    if (typeof entry !== 'string') throw invalid(`${where}.images`, 'file or folder names', entry);
    const target = path.resolve(base, entry);
    const stat = await fs.stat(target).catch(() => undefined);
    if (stat === undefined) throw new EquipoiseError('missing', `${where}.images: ${target} does not exist`);
    if (stat.isDirectory()) files.push(...(await imagesIn(target, where)));
    else files.push(target);
  }
  return { name: text(category, where), files };
}

function field(value: unknown, key: string, where: string): unknown[] {
  const entry =
    typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[key] : undefined;
  if (!Array.isArray(entry)) throw invalid(`${where}: ${key}`, 'a list', entry);
  return entry;
}

function text(value: unknown, where: string): string {
  const name = (value as { name?: unknown } | null)?.name;
  if (typeof name !== 'string' || name === '') throw invalid(`${where}: name`, 'a name', name);
  return name;
}

/**
 * Hashes the files and picks at most `perCategory` references of each category, by seed.
 *
 * @throws EquipoiseError for an attribute with fewer than two categories, a category without images, the same image
 * twice within an attribute, or attributes and categories with equal names
 */
export async function chooseReferences(
  found: readonly AttributeFiles[],
  perCategory: number,
  seed: number,
  context: JobContext = {},
): Promise<Attribute[]> {
  checkNames(found);
  const attributes: Attribute[] = [];
  for (const { name, categories } of found) {
    const seen = new Map<string, string>();
    const chosen: Category[] = [];
    for (const category of categories) {
      if (category.files.length === 0)
        throw invalid(`attribute ${name}`, `images in category "${category.name}"`, prose('none'), {
          code: 'missing',
        });
      const images: ReferenceImage[] = [];
      for (const file of pick(category.files, perCategory, seed, name, category.name)) {
        throwIfCancelled(context.signal, 'reference images');
        const hash = await sha256File(file);
        const twin = seen.get(hash);
        if (twin !== undefined)
          throw invalid(
            `attribute ${name}`,
            'every image once',
            prose(`${file}, the same image as ${twin}`),
            { hints: ['Remove one of them: a duplicate would count twice, or in two categories.'] },
          );
        seen.set(hash, file);
        images.push({ file, hash });
      }
      chosen.push({ name: category.name, images });
    }
    attributes.push({ name, categories: chosen });
  }
  return attributes;
}

function checkNames(found: readonly AttributeFiles[]): void {
  if (found.length === 0) throw invalid('attributes', 'at least one attribute', prose('none'));
  const names = found.map(({ name }) => name);
  const repeated = names.find((name, i) => names.indexOf(name) !== i);
  if (repeated !== undefined)
    throw invalid('attributes', 'each attribute once', prose(`"${repeated}" twice`));
  for (const { name, categories } of found) {
    if (categories.length < 2)
      throw invalid(
        `attribute ${name}`,
        'at least two categories',
        prose(categories.length === 0 ? 'none' : `only "${categories[0]?.name}"`),
      );
    const labels = categories.map((c) => c.name);
    const twice = labels.find((label, i) => labels.indexOf(label) !== i);
    if (twice !== undefined)
      throw invalid(`attribute ${name}`, 'each category once', prose(`"${twice}" twice`));
  }
}

/** A sample without replacement that depends on the seed and the names alone. */
function pick(
  files: readonly string[],
  count: number,
  seed: number,
  attribute: string,
  category: string,
): string[] {
  return new PhiloxSequence(seed, streamId('references', attribute, category))
    .shuffle([...files])
    .slice(0, count);
}

/** How unequal the categories of an attribute are, as a sentence, or undefined when the largest is within 3x. */
export function imbalanceWarning({ name, categories }: Attribute): string | undefined {
  const sizes = categories.map((c) => c.images.length);
  const [least, most] = [Math.min(...sizes), Math.max(...sizes)];
  if (most <= 3 * least) return undefined;
  const detail = categories.map((c) => `${c.name} ${c.images.length}`).join(', ');
  return `attribute ${name}: categories of very different size (${detail}); batches may miss the small ones`;
}

/** All combinations of categories as index vectors; the first attribute varies slowest. */
export function combinations(sizes: readonly number[]): number[][] {
  return sizes.reduce<number[][]>(
    (all, size) => all.flatMap((head) => Array.from({ length: size }, (_, k) => [...head, k])),
    [[]],
  );
}

/** `<attribute>_<category>_<attribute>_<category>...`, safe as a folder name. */
export function combinationName(
  attributes: readonly { name: string; categories: readonly { name: string }[] }[],
  indices: readonly number[],
): string {
  return attributes
    .map(({ name, categories }, a) => `${name}_${categories[indices[a] as number]?.name}`)
    .join('_')
    .replace(/[^A-Za-z0-9._-]+/g, '-');
}
