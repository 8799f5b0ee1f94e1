/** The embedded model: its world, its judges, its weights and how they were trained. */
export { gridPng } from './data/pictures.js';
export { BackgroundJudge } from './judges/background.js';
export { HEADSHOT_ATTRIBUTES, type HeadshotAttribute } from './judges/headshot-judge.js';
export { judgeFeatures } from './judges/tasks.js';
export { type Judges, loadJudges, loadTinyModel, SHIPPED_WEIGHTS } from './model/load.js';
export { findHeadshots } from './verify/headshots.js';
export { bindingPrompts, type ScenePrompt, singlePrompts } from './verify/prompts.js';
export { findScenes } from './verify/scenes.js';
export {
  drawPrompt,
  judgeSuite,
  SUITE_CATEGORIES,
  type SuiteCategory,
  type SuitePrompt,
  suitePrompts,
} from './verify/suites.js';
export * from './world/attributes.js';
export { categoriesOf, categoryName, type ReferenceOptions, writeReferences } from './world/references.js';
export { IMAGE_BYTES, renderImages } from './world/render.js';
export { drawSamples, type WorldSample } from './world/sample.js';
