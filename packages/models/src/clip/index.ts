export { CLIPModel, type ClipOutput, unitLength } from './clip.js';
export {
  type ClipConfig,
  type ClipTextConfig,
  type ClipVisionConfig,
  parseClipConfig,
  parseClipTextConfig,
  parseClipVisionConfig,
} from './config.js';
export {
  CLIPTextModel,
  CLIPTextModelWithProjection,
  type ClipTextOptions,
  type ClipTextOutput,
  type ClipTextProjectedOutput,
  ClipTextTransformer,
  TextPrefix,
  takePositions,
} from './text.js';
export {
  CLIPVisionModel,
  CLIPVisionModelWithProjection,
  type ClipVisionOutput,
  type ClipVisionProjectedOutput,
  ClipVisionTransformer,
} from './vision.js';
