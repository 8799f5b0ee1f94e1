/** Tensor names as different versions of the libraries write them, brought to the current ones. */
import type { StateDict } from './state-dict.js';

const LEGACY_ATTENTION = /(^|\.)(attentions\.\d+)\.(query|key|value|proj_attn)\.(weight|bias)$/;
const MODERN: Readonly<Record<string, string>> = {
  query: 'to_q',
  key: 'to_k',
  value: 'to_v',
  proj_attn: 'to_out.0',
};

/** `…attentions.0.query.weight`, as diffusers wrote before 0.18, to `…attentions.0.to_q.weight`. */
export function modernAttentionName(name: string): string {
  return name.replace(LEGACY_ATTENTION, (_, start: string, block: string, part: string, kind: string) => {
    return `${start}${block}.${MODERN[part] as string}.${kind}`;
  });
}

interface ClipLayout {
  /** Prefix of the tower's tensors. */
  readonly prefix: string;
  /** What belongs to other classes and may lie in the same file. */
  readonly foreign: RegExp;
}

const CLIP_LAYOUTS: Readonly<Record<string, ClipLayout>> = {
  CLIPTextModel: {
    prefix: 'text_model.',
    foreign: /^(vision_model\.|visual_projection\.|text_projection\.|logit_scale$)/,
  },
  CLIPTextModelWithProjection: {
    prefix: 'text_model.',
    foreign: /^(vision_model\.|visual_projection\.|logit_scale$)/,
  },
  CLIPVisionModel: {
    prefix: 'vision_model.',
    foreign: /^(text_model\.|text_projection\.|visual_projection\.|logit_scale$)/,
  },
  CLIPVisionModelWithProjection: {
    prefix: 'vision_model.',
    foreign: /^(text_model\.|text_projection\.|logit_scale$)/,
  },
};

const TOP_LEVEL = /^(text_projection|visual_projection)\.|^logit_scale$/;
/** Constant index buffers that older files carry. */
const POSITION_IDS = /(^|\.)embeddings\.position_ids$/;

/**
 * Brings the names of a component's tensors to the current form: modern attention names; for CLIP towers the
 * `text_model.` or `vision_model.` prefix, which transformers 5 leaves out, and without the other tower of a
 * combined file; no `position_ids`.
 *
 * @param className the class the tensors are loaded as
 */
export function currentNames(dict: StateDict, className: string | undefined): StateDict {
  const layout = className === undefined ? undefined : CLIP_LAYOUTS[className];
  const isClip = layout !== undefined || className === 'CLIPModel';
  if (!isClip)
    return dict.names().some((name) => LEGACY_ATTENTION.test(name)) ? dict.rename(modernAttentionName) : dict;
  const bare = layout !== undefined && !dict.names().some((name) => name.startsWith(layout.prefix));
  return dict.rename((name) => {
    if (POSITION_IDS.test(name) || layout?.foreign.test(name)) return null;
    return bare && !TOP_LEVEL.test(name) ? layout.prefix + name : name;
  });
}
