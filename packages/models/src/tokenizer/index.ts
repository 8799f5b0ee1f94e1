export type { AddedToken } from './added-tokens.js';
export { fromByteCharacters, toByteCharacters } from './byte-characters.js';
export { type Cleaning, hfFtfy, openai } from './clean.js';
export * from './clip-tokenizer.js';
export { filesOfVocabulary, readTokenizerFiles, type TokenizerFiles } from './files.js';
export * from './train-bpe.js';
