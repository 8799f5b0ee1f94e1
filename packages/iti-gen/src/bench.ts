/** What experiments run on: a pipeline, its CLIP, reference images, somebody who judges, and a measure of quality. */
import type { TextToImagePipeline } from '@equipoise/diffusion';
import type { AttributeFiles } from './attributes.js';
import type { AttributeClassifier } from './classifiers.js';
import type { LoadedClip } from './clip-folder.js';
import type { QualityMeasure } from './evaluate.js';
import type { Wording } from './wording.js';

export interface Bench {
  readonly pipeline: TextToImagePipeline;
  readonly clip: LoadedClip;
  /** Of everything that draws or judges: results of another bench are not taken for this one's. */
  readonly hash: string;
  readonly wording: Wording;
  /**
   * Reference images of each attribute, as many as there are; the experiments choose among them by seed.
   *
   * @param folder where a bench that makes its references may put them
   */
  references(attributes: readonly string[], folder: string): Promise<AttributeFiles[]>;
  /** One judge per attribute, in the same order. */
  classifiers(attributes: readonly string[]): readonly AttributeClassifier[];
  /** Against what pictures of these attributes are measured; null where nothing was given. */
  quality(attributes: readonly string[]): Promise<QualityMeasure | null>;
}
