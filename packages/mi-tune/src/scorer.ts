/** Judges of alignment: anything that says how well pictures show their prompts. */
import type { JobContext } from '@equipoise/core';
import type { RgbImage } from '@equipoise/models';

/**
 * One measure of alignment between a picture and its prompt; more is better. CLIPScore, a judge of the embedded world
 * and programs outside (BLIP-VQA, HPSv2) all come in this form.
 */
export interface AlignmentScorer {
  /** Column of the tables: lower-case letters, digits and `_`. */
  readonly name: string;
  /** Of everything the scores depend on: results with another hash are not mixed. */
  readonly hash: string;
  /** One finite number for each pair of a picture and the prompt beside it. */
  score(
    images: readonly RgbImage[],
    prompts: readonly string[],
    context?: JobContext,
  ): Promise<ArrayLike<number>>;
}
