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
import { readMapping } from './mapping.js';

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

const IMAGE = /\.(jpe?g|jfif|png|webp|tiff?|gif|avif)$/i;
/** Pictures, too, but none that can be read: to leave them out unsaid would change what is learned or counted. */
const UNREADABLE = /\.(bmp|heic|heif|jp2|jxl|p[bgnp]m|psd|svg|tga)$/i;

interface Entry {
  readonly name: string;
  readonly path: string;
  readonly isFolder: boolean;
}

/** What a folder holds but for hidden names, links followed. */
async function list(folder: string, what: string): Promise<Entry[]> {
  const names = await fs.readdir(folder).catch((cause: unknown) => {
    throw new EquipoiseError('missing', `${what}: ${folder} is not a readable folder`, { cause });
  });
  const entries = names
    .filter((name) => !name.startsWith('.'))
    // Numbers by value, so that a category "10_19" follows "3_9".
    .sort((a, b) => a.localeCompare(b, 'en', { numeric: true }))
    .map(async (name) => {
      const own = path.join(folder, name);
      const found = await fs.stat(own).catch((cause: unknown) => {
        throw new EquipoiseError('missing', `${what}: ${own} cannot be read, or is a link to nothing`, {
          cause,
        });
      });
      return { name, path: own, isFolder: found.isDirectory() };
    });
  return Promise.all(entries);
}

/** @throws EquipoiseError `unsupported` for a picture that cannot be read */
function isImage({ path: file, isFolder }: Entry): boolean {
  if (!isFolder && UNREADABLE.test(file))
    throw invalid(file, 'a picture in one of JPEG, PNG, WebP, TIFF, GIF, AVIF', path.extname(file), {
      code: 'unsupported',
      hints: ['Convert it, for instance to PNG, or move it elsewhere.'],
    });
  return !isFolder && IMAGE.test(file);
}

async function imagesIn(folder: string, what: string): Promise<string[]> {
  return (await list(folder, what)).filter(isImage).map((entry) => entry.path);
}

/** All images of a folder and of the folders below it, in order of name; a folder that links lead to again counts once. */
export async function imagesUnder(folder: string, seen: Set<string> = new Set()): Promise<string[]> {
  const files: string[] = [];
  for (const entry of await list(folder, 'images')) {
    if (!entry.isFolder) {
      if (isImage(entry)) files.push(entry.path);
      continue;
    }
    const real = await fs.realpath(entry.path);
    if (seen.has(real)) continue;
    seen.add(real);
    files.push(...(await imagesUnder(entry.path, seen)));
  }
  return files;
}

/** A folder's name as people type it: some systems store letters and their accents apart. */
const typed = (name: string): string => name.normalize('NFC');

/**
 * Attributes as folders: `root/<Attribute>/<Category>/*.{jpg,png,...}` (the layout of ITI-GEN's data).
 *
 * @param names which attributes, in order; all folders of `root` if empty
 */
export async function findAttributes(root: string, names: readonly string[]): Promise<AttributeFiles[]> {
  const all = (await list(root, 'data')).filter(({ isFolder }) => isFolder);
  const folders = selected(
    all.map((entry) => ({ ...entry, name: typed(entry.name) })),
    names,
  );
  const found: AttributeFiles[] = [];
  for (const { name, path: folder } of folders) {
    const what = `attribute ${name}`;
    const categories = (await list(folder, what)).filter(({ isFolder }) => isFolder);
    found.push({
      name,
      categories: await Promise.all(
        categories.map(async (c) => ({ name: typed(c.name), files: await imagesIn(c.path, what) })),
      ),
    });
  }
  return found;
}

/**
 * Attributes from a JSON or YAML file: `{attributes: [{name, categories: [{name, images: [file or folder, ...]}]}]}`,
 * paths relative to the file.
 *
 * @param names which attributes, in order; all of the file if empty
 */
export async function readAttributeManifest(
  file: string,
  names: readonly string[] = [],
): Promise<AttributeFiles[]> {
  const attributes = field(await readMapping(file), 'attributes', file);
  const found = await Promise.all(
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
  return selected(found, names);
}

/** Attributes of a folder, or of a JSON or YAML manifest, whichever `data` is; all if no name is given. */
export function readAttributes(data: string, names: readonly string[] = []): Promise<AttributeFiles[]> {
  return /\.(json|ya?ml)$/i.test(data) ? readAttributeManifest(data, names) : findAttributes(data, names);
}

/** The attributes asked for, in that order; all if none is named. */
function selected<T extends { readonly name: string }>(found: readonly T[], names: readonly string[]): T[] {
  requireOnce(names);
  requireOnce(found.map(({ name }) => name));
  if (names.length === 0) return [...found];
  return names.map((name) => {
    const own = found.find((attribute) => attribute.name === name);
    if (own !== undefined) return own;
    const known = found.map((attribute) => attribute.name).join(', ');
    throw invalid('attributes', `one of ${known || 'no folder there'}`, name, { code: 'missing' });
  });
}

function requireOnce(names: readonly string[]): void {
  const repeated = names.find((name, i) => names.indexOf(name) !== i);
  if (repeated !== undefined)
    throw invalid('attributes', 'each attribute once', prose(`"${repeated}" twice`));
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
  requireOnce(found.map(({ name }) => name));
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

/** Names joined by underscores, safe as a file name: letters of any script, digits, and what does no harm. */
export function fileName(names: readonly string[]): string {
  return names.join('_').replace(/[^\p{L}\p{M}\p{N}._-]+/gu, '-');
}
