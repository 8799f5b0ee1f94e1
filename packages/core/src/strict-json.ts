/**
 * A JSON reader as strict as a file format needs: unlike `JSON.parse` it refuses repeated keys and lone
 * surrogates, tells `1` from `1.0` and `1e0`, and limits nesting and size, so that no text can exhaust the memory.
 */
import { EquipoiseError } from './errors.js';
import { type JsonValue, PyFloat } from './json.js';

/** A number as it was spelled. */
export class JsonNumber {
  constructor(readonly text: string) {}

  /** The value when spelled as an unsigned integer of at most 2^53 - 1, else undefined. */
  toUnsigned(): number | undefined {
    if (!/^(?:0|[1-9][0-9]{0,15})$/.test(this.text)) return undefined;
    const value = Number(this.text);
    return Number.isSafeInteger(value) ? value : undefined;
  }
}

export type StrictJson = null | boolean | string | JsonNumber | StrictJson[] | Map<string, StrictJson>;

const MAX_DEPTH = 128;
/** Far above any model's header, and few enough to hold in memory. */
const MAX_VALUES = 4_000_000;
const NUMBER = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y;

/**
 * Parses a whole text.
 *
 * @param source names the text in errors
 * @throws EquipoiseError `corrupt` with the position of the first fault
 */
export function parseStrictJson(text: string, source: string): StrictJson {
  return new Parser(text, source).document();
}

/**
 * Parses JSON so that {@link pythonJson} writes it back as it was: numbers spelled as floats (`1.0`) come as
 * {@link PyFloat}. Libraries that check types refuse `1` where Python wrote `1.0`.
 *
 * @throws EquipoiseError `corrupt`
 */
export function parsePythonJson(text: string, source: string): JsonValue {
  return toPython(parseStrictJson(text, source));
}

function toPython(value: StrictJson): JsonValue {
  if (value instanceof Map) return Object.fromEntries([...value].map(([key, item]) => [key, toPython(item)]));
  if (Array.isArray(value)) return value.map(toPython);
  if (!(value instanceof JsonNumber)) return value;
  if (/[.eE]/.test(value.text)) return new PyFloat(Number(value.text));
  const integer = Number(value.text);
  return Number.isSafeInteger(integer) ? integer : BigInt(value.text);
}

class Parser {
  #at = 0;
  #values = 0;

  constructor(
    private readonly text: string,
    private readonly source: string,
  ) {}

  document(): StrictJson {
    const value = this.#value(0);
    this.#blank();
    if (this.#at < this.text.length) throw this.#fault('the end of the text');
    return value;
  }

  #value(depth: number): StrictJson {
    this.#values += 1;
    if (this.#values > MAX_VALUES) throw this.#fault(`at most ${MAX_VALUES} values`);
    if (depth > MAX_DEPTH) throw this.#fault(`nesting of at most ${MAX_DEPTH} levels`);
    this.#blank();
    switch (this.text[this.#at]) {
      case '{':
        return this.#object(depth);
      case '[':
        return this.#array(depth);
      case '"':
        return this.#string();
      case 't':
        return this.#word('true', true);
      case 'f':
        return this.#word('false', false);
      case 'n':
        return this.#word('null', null);
      default:
        return this.#number();
    }
  }

  #object(depth: number): Map<string, StrictJson> {
    const members = new Map<string, StrictJson>();
    this.#at++;
    this.#blank();
    if (this.#accept('}')) return members;
    for (;;) {
      this.#blank();
      const start = this.#at;
      if (this.text[start] !== '"') throw this.#fault('a key in quotes');
      const key = this.#string();
      if (members.has(key)) {
        this.#at = start;
        throw this.#fault(`each key once; ${JSON.stringify(key)} came before`);
      }
      this.#blank();
      if (!this.#accept(':')) throw this.#fault('":"');
      members.set(key, this.#value(depth + 1));
      this.#blank();
      if (this.#accept('}')) return members;
      if (!this.#accept(',')) throw this.#fault('"," or "}"');
    }
  }

  #array(depth: number): StrictJson[] {
    const items: StrictJson[] = [];
    this.#at++;
    this.#blank();
    if (this.#accept(']')) return items;
    for (;;) {
      items.push(this.#value(depth + 1));
      this.#blank();
      if (this.#accept(']')) return items;
      if (!this.#accept(',')) throw this.#fault('"," or "]"');
    }
  }

  #string(): string {
    const start = this.#at;
    let escaped = false;
    let end = start + 1;
    for (;;) {
      const c = this.text.charCodeAt(end);
      if (c === 0x22) break;
      if (Number.isNaN(c) || c < 0x20) {
        this.#at = end;
        throw this.#fault('the closing quote of a string');
      }
      if (c === 0x5c) escaped = true;
      end += c === 0x5c ? 2 : 1;
    }
    this.#at = end + 1;
    if (!escaped) return this.text.slice(start + 1, end);
    const result = this.#unescape(start, end + 1);
    // The text was valid UTF-8, so that a lone surrogate can only come from an escape.
    if (/\p{Surrogate}/u.test(result)) {
      this.#at = start;
      throw this.#fault('surrogate escapes in pairs');
    }
    return result;
  }

  #unescape(start: number, end: number): string {
    try {
      return JSON.parse(this.text.slice(start, end)) as string;
    } catch {
      this.#at = start;
      throw this.#fault('a string with escapes JSON knows');
    }
  }

  #number(): JsonNumber {
    NUMBER.lastIndex = this.#at;
    const match = NUMBER.exec(this.text);
    if (match === null) throw this.#fault('a JSON value');
    this.#at = NUMBER.lastIndex;
    return new JsonNumber(match[0]);
  }

  #word<T>(word: string, value: T): T {
    if (!this.text.startsWith(word, this.#at)) throw this.#fault('a JSON value');
    this.#at += word.length;
    return value;
  }

  #blank(): void {
    for (;;) {
      const c = this.text.charCodeAt(this.#at);
      if (c !== 0x20 && c !== 0x0a && c !== 0x0d && c !== 0x09) return;
      this.#at++;
    }
  }

  #accept(character: string): boolean {
    if (this.text[this.#at] !== character) return false;
    this.#at++;
    return true;
  }

  #fault(expected: string): EquipoiseError {
    const found = this.text.slice(this.#at, this.#at + 16);
    const shown = found === '' ? 'the end' : JSON.stringify(found);
    return new EquipoiseError(
      'corrupt',
      `${this.source}: expected valid JSON: ${expected} at character ${this.#at}, got ${shown}`,
    );
  }
}
