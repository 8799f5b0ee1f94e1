/** A model's tensors by name, with bookkeeping of which were used. */
import { EquipoiseError, nearest, prose } from '@equipoise/core';
import { elementsOf } from './dtypes.js';
import { describeTensor, renamed, sameShape, type TensorSource } from './tensor-source.js';

/** Names and shapes a model expects. */
export type Manifest = ReadonlyMap<string, readonly number[]> | Readonly<Record<string, readonly number[]>>;

export interface ManifestReport {
  readonly missing: readonly {
    readonly name: string;
    readonly expected: readonly number[];
    readonly nearest?: string;
  }[];
  readonly extra: readonly {
    readonly name: string;
    readonly actual: readonly number[];
    readonly nearest?: string;
  }[];
  readonly wrongShape: readonly {
    readonly name: string;
    readonly expected: readonly number[];
    readonly actual: readonly number[];
  }[];
}

export interface ConsumeOptions {
  /** Names that may be left over, such as `position_ids` buffers. */
  readonly ignore?: readonly RegExp[];
}

/** How many names of one kind an error lists, and for how many it looks for the nearest. */
const LISTED = 10;

interface Closable {
  close(): Promise<void>;
}

/**
 * Tensors by name. A model takes each tensor it needs with the shape it needs; afterwards
 * {@link assertAllConsumed} makes sure that nothing was left over. Prefixed views ({@link scope}) share one
 * bookkeeping.
 */
export class StateDict {
  readonly #sources: ReadonlyMap<string, TensorSource>;
  readonly #taken: Set<string>;
  readonly #prefix: string;
  readonly #resources: readonly Closable[];

  /** @param origin where the tensors come from, for errors: a file or folder */
  constructor(
    sources: Iterable<TensorSource> | ReadonlyMap<string, TensorSource>,
    readonly origin: string,
    resources: readonly Closable[] = [],
    shared: { taken: Set<string>; prefix: string } = { taken: new Set(), prefix: '' },
  ) {
    this.#sources =
      sources instanceof Map
        ? sources
        : new Map([...(sources as Iterable<TensorSource>)].map((s) => [s.name, s]));
    this.#taken = shared.taken;
    this.#prefix = shared.prefix;
    this.#resources = resources;
  }

  /** Names, without this view's prefix. */
  names(): string[] {
    const names = [...this.#sources.keys()];
    return this.#prefix === ''
      ? names
      : names.filter((name) => name.startsWith(this.#prefix)).map((name) => name.slice(this.#prefix.length));
  }

  get size(): number {
    return this.#prefix === '' ? this.#sources.size : this.names().length;
  }

  has(name: string): boolean {
    return this.#sources.has(this.#prefix + name);
  }

  /** A tensor without counting it as used. */
  peek(name: string): TensorSource | undefined {
    return this.#sources.get(this.#prefix + name);
  }

  /**
   * The tensor `name`, counted as used.
   *
   * @param shape what it must be; any shape when absent
   * @throws EquipoiseError `missing` with the nearest name, or `corrupt` when the shape differs
   */
  take(name: string, shape?: readonly number[]): TensorSource {
    const full = this.#prefix + name;
    const source = this.#sources.get(full);
    if (source === undefined) throw this.#missing(full, shape);
    if (shape !== undefined && !sameShape(source.shape, shape)) {
      throw new EquipoiseError(
        'corrupt',
        `${this.origin}: tensor ${JSON.stringify(full)}: expected shape [${shape.join(', ')}], got [${source.shape.join(', ')}]`,
      );
    }
    this.#taken.add(full);
    return source;
  }

  /** A view of the tensors under `prefix` (give it with its dot), sharing the bookkeeping. */
  scope(prefix: string): StateDict {
    return new StateDict(this.#sources, this.origin, [], {
      taken: this.#taken,
      prefix: this.#prefix + prefix,
    });
  }

  /** Names under this view's prefix that no one took. */
  remaining({ ignore = [] }: ConsumeOptions = {}): string[] {
    return this.names().filter((name) => {
      const full = this.#prefix + name;
      return !this.#taken.has(full) && !ignore.some((pattern) => pattern.test(full));
    });
  }

  /** @throws EquipoiseError `corrupt` that lists the tensors no one took */
  assertAllConsumed(options: ConsumeOptions = {}): void {
    const left = this.remaining(options).map((name) => this.#prefix + name);
    if (left.length === 0) return;
    const lines = listed(
      left,
      (name) => `  ${JSON.stringify(name)} ${describeTensor(this.#sources.get(name) as TensorSource)}`,
    );
    throw new EquipoiseError(
      'corrupt',
      [`${this.origin}: ${count(left.length, 'tensor')} the model has no use for`, ...lines].join('\n'),
    );
  }

  /**
   * A new dict with other names; tensors for which `rename` gives null are left out. It starts with nothing
   * taken and closes the same files.
   *
   * @throws EquipoiseError `corrupt` when two tensors end up with one name
   */
  rename(rename: (name: string) => string | null): StateDict {
    const result = new Map<string, TensorSource>();
    for (const name of this.names()) {
      const source = this.peek(name) as TensorSource;
      const next = rename(name);
      if (next === null) continue;
      if (result.has(next)) {
        throw new EquipoiseError(
          'corrupt',
          `${this.origin}: two tensors stand for ${JSON.stringify(next)}, one of them ${JSON.stringify(name)}`,
        );
      }
      result.set(next, next === source.name ? source : renamed(source, next));
    }
    return new StateDict(result, this.origin, this.#resources);
  }

  /** Compares names and shapes with what a model expects. */
  check(manifest: Manifest, { ignore = [] }: ConsumeOptions = {}): ManifestReport {
    const expected = manifest instanceof Map ? manifest : new Map(Object.entries(manifest));
    const names = this.names();
    const missing = [...expected.keys()].filter((name) => !this.has(name));
    const extra = names.filter(
      (name) => !expected.has(name) && !ignore.some((pattern) => pattern.test(name)),
    );
    const closest = (name: string, i: number, candidates: readonly string[]): { nearest?: string } => {
      // Edit distance to every name is dear: only for those an error will list.
      const found = i < LISTED ? nearest(name, candidates) : undefined;
      return found === undefined ? {} : { nearest: found };
    };
    return {
      missing: missing.map((name, i) => ({
        name,
        expected: expected.get(name) as readonly number[],
        ...closest(name, i, extra),
      })),
      extra: extra.map((name, i) => ({
        name,
        actual: (this.peek(name) as TensorSource).shape,
        ...closest(name, i, missing),
      })),
      wrongShape: [...expected].flatMap(([name, shape]) => {
        const actual = this.peek(name)?.shape;
        return actual === undefined || sameShape(actual, shape) ? [] : [{ name, expected: shape, actual }];
      }),
    };
  }

  /** @throws EquipoiseError `corrupt` listing every missing, unexpected and wrongly shaped tensor */
  require(manifest: Manifest, options: ConsumeOptions = {}): void {
    const { missing, extra, wrongShape } = this.check(manifest, options);
    if (missing.length + extra.length + wrongShape.length === 0) return;
    const near = (item: { nearest?: string }): string =>
      item.nearest === undefined ? '' : `; nearest: ${JSON.stringify(item.nearest)}`;
    const lines = [
      ...listed(
        missing,
        (item) => `  missing ${JSON.stringify(item.name)} [${item.expected.join(', ')}]${near(item)}`,
      ),
      ...listed(
        extra,
        (item) => `  unexpected ${JSON.stringify(item.name)} [${item.actual.join(', ')}]${near(item)}`,
      ),
      ...listed(
        wrongShape,
        (item) =>
          `  ${JSON.stringify(item.name)}: expected shape [${item.expected.join(', ')}], got [${item.actual.join(', ')}]`,
      ),
    ];
    const head = `${this.origin}: the tensors do not fit the model: ${missing.length} missing, ${extra.length} unexpected, ${wrongShape.length} of another shape`;
    throw new EquipoiseError('corrupt', [head, ...lines].join('\n'));
  }

  /** All tensors of this view. */
  sources(): TensorSource[] {
    return this.names().map((name) => this.peek(name) as TensorSource);
  }

  /** Closes the files behind the tensors. */
  async close(): Promise<void> {
    for (const resource of this.#resources) await resource.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #missing(full: string, shape: readonly number[] | undefined): EquipoiseError {
    const closest = nearest(full, this.#sources.keys());
    const wanted = shape === undefined ? '' : ` of shape [${shape.join(', ')}]`;
    const found =
      closest === undefined
        ? 'none'
        : `none; nearest: ${JSON.stringify(closest)} [${this.#sources.get(closest)?.shape.join(', ')}]`;
    return new EquipoiseError(
      'missing',
      `${this.origin}: tensor ${JSON.stringify(full)}: expected one${wanted}, got ${prose(found).text}`,
    );
  }
}

/** Counts of a set of tensors. */
export interface TensorSummary {
  readonly tensors: number;
  readonly elements: number;
  readonly bytes: number;
  /** Number of tensors by type. */
  readonly dtypes: Readonly<Record<string, number>>;
}

/** Counts tensors, elements, bytes and types. */
export function summarizeTensors(sources: Iterable<TensorSource>): TensorSummary {
  const dtypes: Record<string, number> = {};
  let tensors = 0;
  let elements = 0;
  let bytes = 0;
  for (const source of sources) {
    tensors += 1;
    elements += Number(elementsOf(source.name, source.shape));
    bytes += source.byteLength;
    dtypes[source.dtype] = (dtypes[source.dtype] ?? 0) + 1;
  }
  return { tensors, elements, bytes, dtypes };
}

function listed<T>(items: readonly T[], line: (item: T) => string): string[] {
  const lines = items.slice(0, LISTED).map(line);
  return items.length > LISTED ? [...lines, `  … and ${items.length - LISTED} more`] : lines;
}

function count(n: number, noun: string): string {
  return n === 1 ? `one ${noun}` : `${n} ${noun}s`;
}
