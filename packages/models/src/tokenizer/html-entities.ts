/** HTML character references as Python's html.unescape decodes them, and as ftfy does, which is stricter. */
import { characterEntities } from 'character-entities';
import { characterEntitiesLegacy } from 'character-entities-legacy';

const named = new Map(Object.entries(characterEntities));
/** Names that HTML also accepts without a semicolon. */
const legacy = new Set(characterEntitiesLegacy);

/** Windows-1252 readings of the code points 0x80 to 0x9f; the five it leaves undefined stay as they are. */
const windows1252 =
  '\u20ac\u0081\u201a\u0192\u201e\u2026\u2020\u2021\u02c6\u2030\u0160\u2039\u0152\u008d\u017d\u008f' +
  '\u0090\u2018\u2019\u201c\u201d\u2022\u2013\u2014\u02dc\u2122\u0161\u203a\u0153\u009d\u017e\u0178';

/** What a C1 control character was most likely meant to be. */
export function fromWindows1252(code: number): string {
  return windows1252[code - 0x80] ?? String.fromCharCode(code);
}

/** Code points that HTML refuses: controls and noncharacters. */
function isRefused(code: number): boolean {
  const control = (code >= 0x1 && code <= 0x8) || code === 0xb || (code >= 0xe && code <= 0x1f);
  return control || code === 0x7f || (code >= 0xfdd0 && code <= 0xfdef) || (code & 0xfffe) === 0xfffe;
}

function fromNumber(digits: string): string {
  const hex = digits[0] === 'x' || digits[0] === 'X';
  const code = hex ? Number.parseInt(digits.slice(1), 16) : Number.parseInt(digits, 10);
  if (code >= 0x80 && code <= 0x9f) return fromWindows1252(code);
  if (code === 0 || (code >= 0xd800 && code <= 0xdfff) || code > 0x10ffff) return '\ufffd';
  return isRefused(code) ? '' : String.fromCodePoint(code);
}

function fromName(name: string): string {
  const known = (text: string): string | undefined => {
    if (text.endsWith(';')) return named.get(text.slice(0, -1));
    return legacy.has(text) ? named.get(text) : undefined;
  };
  const whole = known(name);
  if (whole !== undefined) return whole;
  for (let length = name.length - 1; length > 1; length--) {
    const prefix = known(name.slice(0, length));
    if (prefix !== undefined) return prefix + name.slice(length);
  }
  return `&${name}`;
}

/** Python's html.unescape: the longest known name wins, with or without its semicolon. */
export function unescapeHtml(text: string): string {
  return text.replace(/&(#[0-9]+;?|#[xX][0-9a-fA-F]+;?|[^\t\n\f <&#;]{1,32};?)/gu, (_, reference: string) => {
    return reference.startsWith('#') ? fromNumber(reference.slice(1).replace(';', '')) : fromName(reference);
  });
}

/** Names in capitals that stand for the upper case of a name in small letters: &EACUTE; for &eacute;. */
function upperCaseNames(): Map<string, string> {
  const names = new Map<string, string>();
  for (const [name, character] of named) {
    const upper = name.toUpperCase();
    const reference = `&${upper};`;
    if (name === name.toLowerCase() && unescapeHtml(reference) === reference) {
      names.set(upper, character.toUpperCase());
    }
  }
  return names;
}

const capitals = upperCaseNames();

/** The references that ftfy decodes: unambiguous ones, ending in a semicolon. */
export function unescapeHtmlStrictly(text: string): string {
  return text.replace(/&#?[0-9A-Za-z]{1,24};/gu, (reference) => {
    if (!reference.startsWith('&#')) {
      const name = reference.slice(1, -1);
      return named.get(name) ?? capitals.get(name) ?? reference;
    }
    const decoded = unescapeHtml(reference);
    return decoded.includes(';') ? reference : decoded;
  });
}
