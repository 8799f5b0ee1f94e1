/**
 * The reversible map between bytes and printable characters that byte-level BPE works on (Radford et
 * al. 2019): a byte that prints stands for itself, the 68 others for U+0100 onwards, in order.
 */

function printable(byte: number): boolean {
  return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || (byte >= 174 && byte <= 255);
}

const bytes = Array.from({ length: 256 }, (_, byte) => byte);
const remapped = bytes.filter((byte) => !printable(byte));

/** The character of each byte, indexed by byte. */
export const byteCharacters: readonly string[] = bytes.map((byte) =>
  String.fromCharCode(printable(byte) ? byte : 256 + remapped.indexOf(byte)),
);

/** The 256 characters in the order CLIP's vocabularies list them: printing bytes first. */
export const vocabularyAlphabet: readonly string[] = [...bytes.filter(printable), ...remapped].map(
  (byte) => byteCharacters[byte] as string,
);

const byteOf = new Map(byteCharacters.map((character, byte) => [character, byte]));
const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** One character per UTF-8 byte. Lone surrogates become U+FFFD first, as in any UTF-8 encoder. */
export function toByteCharacters(text: string): string {
  let out = '';
  for (const byte of encoder.encode(text)) out += byteCharacters[byte];
  return out;
}

/**
 * The text that byte characters stand for; malformed UTF-8 becomes U+FFFD. Text holding any other
 * character is returned as it is.
 */
export function fromByteCharacters(characters: string): string {
  const out = new Uint8Array(characters.length);
  let length = 0;
  for (const character of characters) {
    const byte = byteOf.get(character);
    if (byte === undefined) return characters;
    out[length++] = byte;
  }
  return decoder.decode(out.subarray(0, length));
}
