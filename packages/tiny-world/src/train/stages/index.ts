/** The stages by name, in the order they build on each other. */
import type { Stage } from '../recipe.js';
import type { StageContext, StageOutcome } from '../stage-context.js';
import { trainClip, trainVision } from './clip.js';
import { trainJudges } from './judges.js';
import { trainUNet } from './unet.js';
import { trainVae } from './vae.js';
import { trainVocabulary } from './vocab.js';

export const STAGE_RUNNERS: Readonly<Record<Stage, (context: StageContext) => Promise<StageOutcome>>> = {
  vocab: trainVocabulary,
  clip: trainClip,
  vae: trainVae,
  judges: trainJudges,
  unet: trainUNet,
  vision: trainVision,
};
