/**
 * Errors of this project: one class, and one message format for everything a caller got wrong.
 */

/** An error with a stable `code`, meant for the user: its message names what to change. */
export class EquipoiseError extends Error {
  override readonly name: string = 'EquipoiseError';
  readonly code: string;

  constructor(code: string, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.code = code;
  }
}

/**
 * Describes a value for an error message: short, quoted, never more than 80 characters.
 */
export function describe(value: unknown): string {
  if (value === undefined) return 'nothing';
  if (typeof value === 'bigint') return `${value}n`;
  if (typeof value === 'function') return `a function (${value.name || 'anonymous'})`;
  if (typeof value === 'number' || typeof value === 'symbol') return String(value);
  let text: string | undefined;
  try {
    text = JSON.stringify(value);
  } catch {
    text = undefined;
  }
  const shown = text ?? Object.prototype.toString.call(value);
  return shown.length > 80 ? `${shown.slice(0, 77)}...` : shown;
}

/**
 * The error for a bad option, argument, file or field.
 * @param name what was wrong: an option, a path, a path plus a key
 * @param expected what would have been accepted, as a noun phrase
 * @param actual the offending value; strings are quoted
 * @returns the error, for the caller to throw
 */
export function invalid(name: string, expected: string, actual: unknown): EquipoiseError {
  return new EquipoiseError('EINVAL', `${name}: expected ${expected}, got ${describe(actual)}`);
}
