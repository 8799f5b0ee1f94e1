/**
 * The text repairs of ftfy 6 (`fix_text` with its default settings), apart from one: text that was decoded
 * with the wrong character set ("cafÃ©") is left as it is. ftfy recognises such text by a large statistical
 * table; everything else here follows fixed rules and gives the same characters.
 */
import { fromWindows1252, unescapeHtmlStrictly } from './html-entities.js';

const ligatures: Record<string, string> = {
  Ĳ: 'IJ',
  ĳ: 'ij',
  ŉ: 'ʼn',
  Ǳ: 'DZ',
  ǲ: 'Dz',
  ǳ: 'dz',
  Ǆ: 'DŽ',
  ǅ: 'Dž',
  ǆ: 'dž',
  Ǉ: 'LJ',
  ǈ: 'Lj',
  ǉ: 'lj',
  Ǌ: 'NJ',
  ǋ: 'Nj',
  ǌ: 'nj',
  ﬀ: 'ff',
  ﬁ: 'fi',
  ﬂ: 'fl',
  ﬃ: 'ffi',
  ﬄ: 'ffl',
  ﬅ: 'ſt',
  ﬆ: 'st',
};
const ligature = new RegExp(`[${Object.keys(ligatures).join('')}]`, 'gu');

/** Rules in the order ftfy applies them; repeated until nothing changes. */
const rules: readonly ((text: string) => string)[] = [
  // C1 controls are Windows-1252 letters that were taken for Latin-1.
  (text) => text.replace(/[\u0080-\u009f]/gu, (c) => fromWindows1252(c.charCodeAt(0))),
  (text) => text.replace(ligature, (c) => ligatures[c] as string),
  (text) => text.replace(/[\u3000\uff01-\uffef]/gu, (c) => (c === '\u3000' ? ' ' : c.normalize('NFKC'))),
  (text) => text.replace(/[\u201c-\u201f]/gu, '"').replace(/[\u02bc\u2018-\u201b]/gu, "'"),
  (text) => text.replace(/\r\n|[\r\u2028\u2029\u0085]/gu, '\n'),
  (text) => text.replace(/[\ud800-\udfff]/gu, '\ufffd'),
  // biome-ignore lint/suspicious/noControlCharactersInRegex: terminal escapes begin with one
  (text) => text.replace(/\u001b\[[\d;]*[a-zA-Z]/gu, ''),
  (text) =>
    // biome-ignore lint/suspicious/noControlCharactersInRegex: it is they that are removed
    text.replace(/[\u0000-\u0008\u000b\u000e-\u001f\u007f\u206a-\u206f\ufeff\ufff9-\ufffc]/gu, ''),
  (text) => text.normalize('NFC'),
];

function fixSegment(segment: string, decode: boolean): string {
  for (let text = segment; ; ) {
    const before = text;
    if (decode) text = unescapeHtmlStrictly(text);
    for (const rule of rules) text = rule(text);
    if (text === before) return text;
  }
}

/**
 * Repairs text line by line. HTML references are decoded up to the first line with a "<" in it, which may be
 * markup.
 */
export function fixText(text: string): string {
  let decode = true;
  return text
    .split(/(?<=\n)/u)
    .map((segment) => {
      decode &&= !segment.includes('<');
      return fixSegment(segment, decode);
    })
    .join('');
}
