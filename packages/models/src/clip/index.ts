export { CLIPModel, type ClipOutput, unitLength } from './clip.js';
export type { ClipConfig, ClipTextConfig, ClipVisionConfig } from './config.js';
export {
  CLIPTextModel,
  CLIPTextModelWithProjection,
  type ClipTextOptions,
  type ClipTextOutput,
  type ClipTextProjectedOutput,
  ClipTextTransformer,
  TextPrefix,
} from './text.js';
export {
  CLIPVisionModel,
  CLIPVisionModelWithProjection,
  type ClipVisionOutput,
  type ClipVisionProjectedOutput,
} from './vision.js';
