/**
 * Trains the small vocabulary of the tokenizer fixtures on a corpus made here, and writes it as a tokenizer
 * folder. The corpus mixes scripts so that merges exist across bytes of one character and across characters.
 *
 *   npx tsx --conditions=equipoise-source tools/parity/make-tokenizer-vocabulary.ts
 */
import { mkdir } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { PhiloxSequence } from '../../packages/core/src/index.js';
import { ClipTokenizer, filesOfVocabulary, trainBpe } from '../../packages/models/src/tokenizer/index.js';

const lists = {
  size: ['small', 'large', 'tiny', 'huge', 'tall', 'narrow', 'wide', 'round'],
  color: ['red', 'green', 'blue', 'yellow', 'purple', 'orange', 'brown', 'white', 'black', 'golden'],
  texture: ['wooden', 'metallic', 'leather', 'fluffy', 'glass', 'rubber', 'plastic', 'knitted'],
  thing: [
    'cat',
    'dog',
    'horse',
    'vase',
    'house',
    'person',
    'teapot',
    'mountain',
    'bicycle',
    'lighthouse',
    'umbrella',
    'headshot',
    'painting',
    'photograph',
    'astronaut',
    'café',
    'fjord',
    'piñata',
    'smörgåsbord',
    'crème brûlée',
  ],
  place: ['in the rain', 'on a table', 'at night', 'under the sea', 'beside a river', 'near the station'],
  relation: ['to the left of', 'to the right of', 'on top of', 'below', 'next to', "that isn't near"],
  foreign: [
    'красная кошка',
    'синяя собака',
    'ένα κόκκινο σπίτι',
    '赤い猫と青い犬',
    '红色的房子',
    '빨간 고양이',
    'قطة حمراء',
    'बिल्ली',
    'บ้านสีแดง',
    'ein schöner Übergang',
    "l'été à la plage",
    'çok güzel',
    'tiếng Việt',
    'žluťoučký kůň',
  ],
  syllable: [
    'ka',
    'to',
    'mi',
    'ren',
    'sol',
    'ver',
    'tin',
    'al',
    'o',
    'ba',
    'dri',
    'shu',
    'qu',
    'ex',
    'ing',
    'er',
    'est',
    'ly',
    'ñu',
    'é',
    'ш',
    'να',
    '犬',
    '猫',
  ],
  emoji: ['🙂', '🚀🚀', '👩‍🚀', '❤️', '🇫🇷', '✨', '...', '!!', '?!', '—', '“quoted”'],
};

/** Sentences by template; the generator is seeded, so the vocabulary is the same every time. */
function* corpus(count: number): Generator<string> {
  const random = new PhiloxSequence(11);
  const pick = (list: keyof typeof lists): string => {
    const choices = lists[list];
    return choices[random.int(choices.length)] as string;
  };
  const madeWord = (): string => Array.from({ length: 2 + random.int(4) }, () => pick('syllable')).join('');
  for (let i = 0; i < count; i++) {
    const scene = `a ${pick('size')} ${pick('color')} ${pick('thing')} ${pick('relation')} a ${pick('texture')} ${pick('thing')}`;
    yield `${scene} ${pick('place')}, ${pick('emoji')} ${madeWord()} ${madeWord()}`;
    if (i % 4 === 0)
      yield `${pick('foreign')} ${pick('emoji')} it's we're they've I'm he'll she'd don't ${1900 + (i % 200)}`;
  }
}

const folder = fileURLToPath(new URL('../../packages/models/fixtures/tokenizer/', import.meta.url));
const vocabulary = trainBpe(corpus(4000), 1200);
await mkdir(folder, { recursive: true });
await new ClipTokenizer(filesOfVocabulary(vocabulary)).save(folder);
console.log(`${vocabulary.tokens.length} tokens, ${vocabulary.merges.length} merges`);
