/** Stage `vocab`: a byte-pair vocabulary in CLIP's format, learned from the training captions. */
import { EquipoiseError } from '@equipoise/core';
import { ClipTokenizer, endOfText, filesOfVocabulary, trainBpe } from '@equipoise/models';
import { TEXT_LENGTH } from '../../model/architecture.js';
import { drawSamples } from '../../world/sample.js';
import type { StageContext, StageOutcome } from '../stage-context.js';

/**
 * Words that prompts use and captions do not, among them the negation: they get whole tokens, whose embeddings
 * training never touches, as rare words have in real models.
 */
const UNSEEN_WORDS = [
  'without',
  'no',
  'not',
  'man',
  'woman',
  'photo',
  'face',
  'natural',
  'scene',
  'bird',
  'dog',
  'cat',
];

/** Learns and writes the vocabulary; checks that every caption fits the model's text length. */
export async function trainVocabulary(context: StageContext): Promise<StageOutcome> {
  const { seed, pictures, vocabulary: size } = context.recipe;
  const captions = drawSamples(seed, 'train', pictures.train).map((sample) => sample.caption);
  // Twice, because a pair seen once is never merged.
  const vocabulary = trainBpe([...captions, ...UNSEEN_WORDS, ...UNSEEN_WORDS], size);
  const tokenizer = new ClipTokenizer(filesOfVocabulary(vocabulary, endOfText, TEXT_LENGTH));
  let longest = 0;
  for (const caption of new Set(captions)) {
    const length = tokenizer.encode(caption).length + 2;
    longest = Math.max(longest, length);
    if (length > TEXT_LENGTH) {
      throw new EquipoiseError(
        'internal',
        `caption ${JSON.stringify(caption)}: expected at most ${TEXT_LENGTH} tokens, got ${length}`,
      );
    }
  }
  await tokenizer.save(await context.folder('vocab'));
  return { finished: true, measurements: { tokens: tokenizer.vocabularySize, longestCaption: longest } };
}
