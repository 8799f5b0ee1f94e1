export type { AddedToken } from './added-tokens.js';
export { endOfWord } from './bpe.js';
export { byteCharacters, fromByteCharacters, toByteCharacters } from './byte-characters.js';
export { type Cleaning, cleanings, hfFast, hfFtfy, openai } from './clean.js';
export * from './clip-tokenizer.js';
export { filesOfVocabulary, readTokenizerFiles, type TokenizerFiles, writeTokenizerFiles } from './files.js';
export * from './train-bpe.js';
