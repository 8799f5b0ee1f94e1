/** Numeric comparisons that cannot pass by accident, and say where and how far values differ. */
import { invalid } from '@equipoise/core';

/** Any list of real numbers. */
export type Numbers = ArrayLike<number>;

export interface Tolerance {
  /** Largest absolute difference allowed. */
  readonly absolute?: number;
  /** Largest difference allowed relative to the expected magnitude; added to `absolute`, as numpy does. */
  readonly relative?: number;
  /** Largest ||actual - expected|| / ||expected|| (Euclidean) allowed. */
  readonly relativeNorm?: number;
  /** Shape, for naming the worst element by its indices; default: flat. */
  readonly shape?: readonly number[];
}

/** How two lists differ. */
export interface Difference {
  readonly count: number;
  /** Position of the largest absolute difference; -1 for empty lists. */
  readonly worstIndex: number;
  readonly actual: number;
  readonly expected: number;
  readonly maxAbsolute: number;
  /** Largest |actual - expected| / |expected| over elements with expected != 0. */
  readonly maxRelative: number;
  /** ||actual - expected|| / ||expected||; the plain norm of the difference when expected is all zero. */
  readonly relativeNorm: number;
}

/**
 * Measures the difference of two lists of equal length.
 *
 * @throws EquipoiseError when lengths differ, or when either list holds NaN or an infinity: such values
 * would slip through every `<=` below
 */
export function difference(actual: Numbers, expected: Numbers): Difference {
  if (actual.length !== expected.length)
    throw invalid('actual', `${expected.length} elements`, actual.length);
  requireFinite('expected', expected);
  requireFinite('actual', actual);
  let worstIndex = -1;
  let maxAbsolute = 0;
  let maxRelative = 0;
  let squaredError = 0;
  let squaredNorm = 0;
  for (let i = 0; i < actual.length; i++) {
    const e = expected[i] as number;
    const error = Math.abs((actual[i] as number) - e);
    if (error > maxAbsolute || worstIndex < 0) {
      maxAbsolute = error;
      worstIndex = i;
    }
    if (e !== 0) maxRelative = Math.max(maxRelative, error / Math.abs(e));
    squaredError += error * error;
    squaredNorm += e * e;
  }
  return {
    count: actual.length,
    worstIndex,
    actual: worstIndex < 0 ? 0 : (actual[worstIndex] as number),
    expected: worstIndex < 0 ? 0 : (expected[worstIndex] as number),
    maxAbsolute,
    maxRelative,
    relativeNorm: squaredNorm === 0 ? Math.sqrt(squaredError) : Math.sqrt(squaredError / squaredNorm),
  };
}

/**
 * Passes silently when `actual` is close to `expected` under every tolerance given.
 *
 * @throws EquipoiseError `numeric` naming the worst element and all measures; `invalid` when no tolerance
 * is given, for then nothing would be checked
 */
export function requireClose(
  name: string,
  actual: Numbers,
  expected: Numbers,
  tolerance: Tolerance,
): Difference {
  const { absolute, relative, relativeNorm } = tolerance;
  if (absolute === undefined && relative === undefined && relativeNorm === undefined) {
    throw invalid('tolerance', 'absolute, relative or relativeNorm', tolerance);
  }
  const measured = difference(actual, expected);
  let outside = -1;
  let excess = 0;
  if (absolute !== undefined || relative !== undefined) {
    for (let i = 0; i < actual.length; i++) {
      const e = expected[i] as number;
      const over = Math.abs((actual[i] as number) - e) - ((absolute ?? 0) + (relative ?? 0) * Math.abs(e));
      if (over > excess) {
        excess = over;
        outside = i;
      }
    }
  }
  const normExceeded = relativeNorm !== undefined && measured.relativeNorm > relativeNorm;
  if (outside < 0 && !normExceeded) return measured;
  const at = outside < 0 ? measured.worstIndex : outside;
  throw invalid(
    `${name}${indices(at, tolerance.shape)}`,
    `${expected[at]} within ${showTolerance(tolerance)}`,
    {
      value: actual[at],
      maxAbsolute: measured.maxAbsolute,
      maxRelative: measured.maxRelative,
      relativeNorm: measured.relativeNorm,
    },
    { code: 'numeric' },
  );
}

/** Throws an EquipoiseError `numeric` that names the first NaN or infinity. */
export function requireFinite(name: string, values: Numbers): void {
  for (let i = 0; i < values.length; i++) {
    if (!Number.isFinite(values[i])) {
      throw invalid(`${name}[${i}]`, 'a finite number', values[i], { code: 'numeric' });
    }
  }
}

/**
 * Distance between two float32 numbers in units in the last place: how many representable numbers apart.
 * Both zeros count as one number.
 */
export function ulpDistance(a: number, b: number): number {
  return Math.abs(orderedBits(a) - orderedBits(b));
}

const scratch = new DataView(new ArrayBuffer(4));

function orderedBits(value: number): number {
  scratch.setFloat32(0, value);
  const bits = scratch.getInt32(0);
  return bits < 0 ? -(bits & 0x7fffffff) : bits;
}

function indices(at: number, shape: readonly number[] | undefined): string {
  if (shape === undefined) return `[${at}]`;
  const parts: number[] = [];
  let rest = at;
  for (const size of [...shape].reverse()) {
    parts.unshift(rest % size);
    rest = Math.floor(rest / size);
  }
  return `[${parts.join(', ')}]`;
}

function showTolerance({ absolute, relative, relativeNorm }: Tolerance): string {
  const parts: string[] = [];
  if (absolute !== undefined) parts.push(`absolute ${absolute}`);
  if (relative !== undefined) parts.push(`relative ${relative}`);
  if (relativeNorm !== undefined) parts.push(`relative norm ${relativeNorm}`);
  return parts.join(', ');
}
