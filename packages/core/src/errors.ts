/**
 * The one error type of the project and its one message format.
 *
 * A message always reads `NAME: expected EXPECTED, got ACTUAL`; what the reader can do about it goes into
 * `hints`, one sentence each, so that a terminal, a log and a JSON report can lay them out differently.
 */

/** Stable, machine-readable reason of an error. The command line maps it to an exit code. */
export type ErrorCode =
  /** An option or argument has a value outside what is allowed. */
  | 'invalid'
  /** A file's contents break its format. */
  | 'corrupt'
  /** A file, folder, tensor or component that must exist does not. */
  | 'missing'
  /** Well-formed, but not something this program handles. */
  | 'unsupported'
  /** Refused because using it could run code or leave the given folder. */
  | 'unsafe'
  /** Another process holds the resource. */
  | 'busy'
  /** The resource belongs to different settings than those given. */
  | 'conflict'
  /** NaN or infinity where a finite number is required. */
  | 'numeric'
  /** The operating system refused: disk full, permission denied, … */
  | 'io'
  /** A remote host did not answer as it should. */
  | 'network'
  /** Stopped on request. */
  | 'cancelled'
  /** A promise this program makes to itself was broken. */
  | 'internal';

export interface EquipoiseErrorOptions {
  readonly cause?: unknown;
  /** Sentences that say what to do about it. */
  readonly hints?: readonly string[];
}

/** An error a user can act on: `message` says what is wrong, `hints` what to do, `code` is for programs. */
export class EquipoiseError extends Error {
  override readonly name: string = 'EquipoiseError';
  readonly code: ErrorCode;
  readonly hints: readonly string[];

  constructor(code: ErrorCode, message: string, options: EquipoiseErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.hints = options.hints ?? [];
  }
}

/** Text that {@link describe} prints as it is, for an `actual` that is a description and not a value. */
export class Prose {
  constructor(readonly text: string) {}
}

/** Marks `text` as a description: `invalid('model.safetensors', 'at least 8 bytes', prose('a file of 3 bytes'))`. */
export function prose(text: string): Prose {
  return new Prose(text);
}

const MAX_SHOWN_CHARACTERS = 120;
const MAX_SHOWN_ITEMS = 8;

function shorten(text: string): string {
  return text.length <= MAX_SHOWN_CHARACTERS ? text : `${text.slice(0, MAX_SHOWN_CHARACTERS - 1)}…`;
}

/** Prints any value in at most about 120 characters, strings quoted, without ever throwing. */
export function describe(value: unknown): string {
  if (value instanceof Prose) return value.text;
  if (value === undefined) return 'nothing';
  if (typeof value === 'string') return shorten(JSON.stringify(value));
  if (typeof value === 'bigint') return shorten(String(value));
  if (typeof value === 'number') return Object.is(value, -0) ? '-0' : String(value);
  if (typeof value === 'function') return 'a function';
  if (typeof value === 'symbol') return 'a symbol';
  if (Array.isArray(value) || (ArrayBuffer.isView(value) && !(value instanceof DataView))) {
    const items = Array.from(value as ArrayLike<unknown>)
      .slice(0, MAX_SHOWN_ITEMS)
      .map(describe);
    const length = (value as ArrayLike<unknown>).length;
    return shorten(`[${items.join(', ')}${length > MAX_SHOWN_ITEMS ? `, … ${length} in all` : ''}]`);
  }
  if (value instanceof Error) return shorten(`${value.name}: ${value.message}`);
  try {
    return shorten(JSON.stringify(value) ?? String(value));
  } catch {
    return 'an object';
  }
}

/** The message format shared by every refusal. */
export function expectedMessage(name: string, expected: string, actual: unknown): string {
  return `${name}: expected ${expected}, got ${describe(actual)}`;
}

/**
 * Builds (does not throw) the error for a bad option, argument or field.
 *
 * @param name what was wrong: an option, `op: argument`, or a file name
 * @param expected what would have been right, as a noun phrase: `'an integer from 1 to 1000'`
 * @param actual the offending value; wrap a description in {@link prose}
 */
export function invalid(
  name: string,
  expected: string,
  actual: unknown,
  options: EquipoiseErrorOptions & { code?: ErrorCode } = {},
): EquipoiseError {
  return new EquipoiseError(options.code ?? 'invalid', expectedMessage(name, expected, actual), options);
}

/** A copy of `error` with more hints; anything that is not an EquipoiseError is wrapped as `internal`. */
export function withHints(error: unknown, ...hints: string[]): EquipoiseError {
  if (error instanceof EquipoiseError) {
    return new EquipoiseError(error.code, error.message, { cause: error, hints: [...error.hints, ...hints] });
  }
  const message = error instanceof Error ? error.message : String(error);
  return new EquipoiseError('internal', message, { cause: error, hints });
}

/** Whether the operating system refused, as opposed to a mistake of this program. */
function isSystemError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && systemErrorCode(error) !== undefined && 'syscall' in error;
}

/**
 * The error as lines for a terminal: the message, then one `hint:` line for each hint. What the operating system
 * refuses is said in its words; a stack is shown for mistakes of this program alone.
 */
export function formatError(error: unknown): string {
  if (!(error instanceof EquipoiseError)) {
    if (isSystemError(error)) return error.message;
    return error instanceof Error ? (error.stack ?? error.message) : String(error);
  }
  return [error.message, ...error.hints.map((hint) => `  hint: ${hint}`)].join('\n');
}

/** The `code` of a Node system error (`'ENOENT'`, …), or undefined. */
export function systemErrorCode(error: unknown): string | undefined {
  if (typeof error !== 'object' || error === null) return undefined;
  const code = (error as { code?: unknown }).code;
  return typeof code === 'string' ? code : undefined;
}
