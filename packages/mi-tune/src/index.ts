export * from './agreement.js';
export * from './candidates.js';
export * from './estimate.js';
export * from './evaluate.js';
export * from './example-set.js';
export * from './external-scorer.js';
export * from './fine-tune.js';
export { type HeatMapOptions, heatMap, largestMagnitude } from './heat-map.js';
export { mergeSweeps } from './merge.js';
export * from './mi-weight.js';
export * from './open-parts.js';
export * from './parts.js';
export * from './picture-mi.js';
export { type Decode, decoderOf, type Encode, encoderOf, pictureName } from './pictures.js';
export * from './prompts.js';
export * from './real-images.js';
export * from './rounds.js';
export * from './run-report.js';
export { allSavings, type Savings, scoringSampler } from './savings.js';
export type { AlignmentScorer } from './scorer.js';
export { exportScores, PARQUET, type QueryResult, queryScores } from './scores-table.js';
export * from './selection.js';
export { studentQuantile } from './student.js';
export {
  PICTURES,
  type PictureScores,
  requireScorerNames,
  type SweepJob,
  type SweepOptions,
  sweep,
} from './sweep.js';
export {
  readSweep,
  requireComplete,
  rowsByPrompt,
  type Shard,
  type StoredSweep,
  type SweepRow,
  sweepRows,
} from './sweep-folder.js';
export { ESTIMATORS, type Estimator } from './terms.js';
export * from './tune-job.js';
