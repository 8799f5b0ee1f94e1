/** The embedded model: its world, its judges, its weights and how they were trained. */
export { type Dataset, loadDataset } from './data/dataset.js';
export { gridPng, pictureBytes, pictureTensor } from './data/pictures.js';
export { BackgroundJudge } from './judges/background.js';
export { type Detection, detectObjects, nameColor, standsIn } from './judges/detector.js';
export {
  HEADSHOT_ATTRIBUTES,
  HEADSHOT_HEADS,
  type HeadshotAttribute,
  readHeadshot,
} from './judges/headshot-judge.js';
export { JudgeNetwork } from './judges/network.js';
export { readScene, type SeenObject } from './judges/scene-judge.js';
export { JUDGE_TASKS, type JudgeTask, judgeAccuracy, judgeFeatures, judgeOutputs } from './judges/tasks.js';
export { type GenerateOptions, generate } from './model/generate.js';
export { type Judges, loadJudges, loadTinyClip, loadTinyModel, SHIPPED_WEIGHTS } from './model/load.js';
export { distribution, findHeadshots } from './verify/headshots.js';
export {
  bindingPrompts,
  type ScenePrompt,
  singlePrompts,
  spatialPrompts,
  texturePrompts,
  type Wanted,
} from './verify/prompts.js';
export { findScenes, type SceneFinding, share } from './verify/scenes.js';
export {
  drawPrompt,
  judgeSuite,
  SUITE_CATEGORIES,
  type SuiteCategory,
  type SuitePrompt,
  suitePrompts,
} from './verify/suites.js';
export * from './world/attributes.js';
export { BIAS } from './world/bias.js';
export { categoriesOf, categoryName, type ReferenceOptions, writeReferences } from './world/references.js';
export { IMAGE_BYTES, renderImages } from './world/render.js';
export { drawSample, drawSamples, type Split, type WorldRequest, type WorldSample } from './world/sample.js';
