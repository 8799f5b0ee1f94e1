/** Runs fuzz calls one by one. Call `index` of `seed` is the same whatever came before it. */
import type { Handle, NativeAddon } from '../binding.js';
import { discard, Generator } from './generator.js';
import { HostileError, makeAbsurd, mutateOne } from './mutate.js';
import { CONDITIONAL, coreTable, opTable } from './table.js';

export type Mode = 'valid' | 'near' | 'absurd';

export interface CallOutcome {
  readonly name: string;
  readonly mode: Mode;
  readonly outcome: 'accepted' | 'refused' | 'fault';
  /** What the addon should not have done; undefined when all is well. */
  readonly problem?: string;
}

/** Small enough that no call takes long, large enough for every valid one. */
const MEMORY_LIMIT = 64 << 20;

type NativeFunction = (...args: unknown[]) => unknown;

/** Names of all functions tried, in a fixed order: the order decides what an index means. */
function functionNames(): { core: string[]; ops: string[] } {
  return { core: Object.keys(coreTable), ops: Object.keys(opTable) };
}

interface FuzzCall {
  readonly g: Generator;
  readonly name: string;
  readonly mode: Mode;
  readonly target: Record<string, NativeFunction>;
  readonly args: unknown[];
}

function makeCall(native: NativeAddon, seed: number, index: number): FuzzCall {
  const g = new Generator(native, seed, index);
  const { core, ops } = functionNames();
  const isOp = g.chance(0.85);
  const name = g.pick(isOp ? ops : core);
  const roll = g.unit();
  const mode: Mode = roll < 0.4 ? 'valid' : roll < 0.75 ? 'near' : 'absurd';
  const make = (isOp ? opTable : coreTable)[name] as (g: Generator) => unknown[];
  const target = (isOp ? native.ops : native) as unknown as Record<string, NativeFunction>;
  return { g, name, mode, target, args: mutated(g, mode, make(g)) };
}

/** One call in words, for the report of a crash: `matMul [valid] f32[3,4], bf16[4,5], false, true`. */
export function describeCall(native: NativeAddon, seed: number, index: number): string {
  native.setMemoryLimit(MEMORY_LIMIT);
  const { g, name, mode, args } = makeCall(native, seed, index);
  const show = (value: unknown): string => {
    const tensor = g.known.get(value);
    if (tensor) return `${tensor.storage}[${tensor.shape.join(',')}]`;
    if (Array.isArray(value) && value.length < 100)
      return `[${Array.from(value, () => '').length}: ${Object.values(value).slice(0, 20).map(show).join(', ')}]`;
    if (typeof value === 'number' || typeof value === 'boolean' || value == null) return String(value);
    return typeof value === 'string'
      ? JSON.stringify(value.slice(0, 20))
      : `<${Object.prototype.toString.call(value)}>`;
  };
  try {
    return `${name} [${mode}] ${args.map(show).join(', ')}`;
  } catch {
    return `${name} [${mode}] (arguments that cannot be shown)`;
  } finally {
    g.releaseAll();
  }
}

/** Makes and runs one call, waits for what it queued, and releases everything it made. */
export async function runCall(native: NativeAddon, seed: number, index: number): Promise<CallOutcome> {
  native.setMemoryLimit(MEMORY_LIMIT);
  const { g, name, mode, target, args } = makeCall(native, seed, index);
  const outputs: Handle[] = [];
  try {
    let result: unknown;
    try {
      result = (target[name] as NativeFunction).apply(target, args);
    } catch (error) {
      return { name, mode, outcome: 'refused', ...judgeRefusal(error, mode, name) };
    }
    outputs.push(...handlesOf(native, result));
    if (result instanceof Promise) await result.catch((error: Error) => error);
    return { name, mode, ...settle(g, outputs) };
  } finally {
    native.setMemoryLimit(MEMORY_LIMIT);
    // One result in ten is left to the garbage collector, as a careless caller would.
    for (const handle of outputs) if (!g.chance(0.1) && !g.known.has(handle)) discard(native, handle);
    g.releaseAll();
  }
}

function mutated(g: Generator, mode: Mode, args: unknown[]): unknown[] {
  if (mode === 'absurd') return makeAbsurd(g, args);
  if (mode === 'near') for (let n = g.int(1, 2); n > 0; n--) mutateOne(g, args);
  return args;
}

/** Refusals must be a TypeError or RangeError that begins with the op's name; valid arguments must not be refused. */
function judgeRefusal(error: unknown, mode: Mode, name: string): { problem?: string } {
  if (error instanceof HostileError) return {};
  const text = error instanceof Error ? `${error.constructor.name}: ${error.message}` : String(error);
  if (mode === 'valid' && !CONDITIONAL.has(name)) return { problem: `valid arguments were refused: ${text}` };
  if (!(error instanceof TypeError || error instanceof RangeError))
    return { problem: `neither TypeError nor RangeError: ${text}` };
  if (!/^[A-Za-z0-9_]+: ./.test(error.message)) return { problem: `the message names no op: ${text}` };
  return {};
}

/** Reads some results, and waits for the queue: a fault must name its op. */
function settle(g: Generator, outputs: readonly Handle[]): Pick<CallOutcome, 'outcome' | 'problem'> {
  try {
    for (const handle of outputs) if (g.chance(0.3)) g.native.readSync(handle);
    g.native.synchronize();
    return { outcome: 'accepted' };
  } catch (error) {
    const message = (error as Error).message;
    return {
      outcome: 'fault',
      ...(/[A-Za-z0-9_]+/.test(message) ? {} : { problem: `a fault without a name: ${message}` }),
    };
  }
}

function handlesOf(native: NativeAddon, result: unknown): Handle[] {
  const candidates = Array.isArray(result) ? (result as unknown[]) : [result];
  return candidates.filter((value): value is Handle => {
    if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value) || value instanceof Promise)
      return false;
    try {
      native.info(value as Handle);
      return true;
    } catch {
      return false;
    }
  });
}

export interface FuzzSummary {
  readonly calls: number;
  /** Per function: how often it accepted and refused. */
  readonly functions: Record<string, { accepted: number; refused: number; faults: number }>;
  readonly problems: {
    readonly index: number;
    readonly name: string;
    readonly mode: Mode;
    readonly problem: string;
  }[];
}

/** Runs calls `from` to `from + count - 1`. `before` is told each index first, so that a crash can be placed. */
export async function runCalls(
  native: NativeAddon,
  seed: number,
  from: number,
  count: number,
  before: (index: number) => void = () => {},
): Promise<FuzzSummary> {
  const functions: FuzzSummary['functions'] = {};
  const problems: FuzzSummary['problems'] = [];
  for (let index = from; index < from + count; index++) {
    before(index);
    const { name, mode, outcome, problem } = await runCall(native, seed, index);
    functions[name] ??= { accepted: 0, refused: 0, faults: 0 };
    const counts = functions[name];
    if (outcome === 'accepted') counts.accepted++;
    else if (outcome === 'refused') counts.refused++;
    else counts.faults++;
    if (problem !== undefined && problems.length < 1000) problems.push({ index, name, mode, problem });
    // Finalisers of collected handles, and reads, come in between.
    if (index % 256 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  return { calls: count, functions, problems };
}
