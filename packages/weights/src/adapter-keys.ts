/**
 * How adapter files name their tensors. All spellings come down to (component, module, part): which model of a
 * pipeline, which layer of it, and which of the layer's adapter tensors.
 */

/** The tensors of one adapted layer: A, B, DoRA's magnitude, and the scale's numerator. */
export type AdapterPart = 'down' | 'up' | 'magnitude' | 'alpha';

export type AdapterSpelling =
  /** `unet.<module>.lora.down.weight`: diffusers' `save_lora_weights`. */
  | 'diffusers'
  /** `base_model.model.<module>.lora_A.weight`: PEFT's `save_pretrained`. */
  | 'peft'
  /** `<module>.lora_A.weight`: diffusers' `save_lora_adapter`. */
  | 'bare'
  /** `<attention>.processor.to_q_lora.down.weight`: diffusers before 0.20. */
  | 'processor'
  /** `lora_unet_<module with underscores>.lora_down.weight`: kohya-ss and most other tools. */
  | 'kohya';

export interface AdapterKey {
  readonly component: string;
  readonly module: string;
  readonly part: AdapterPart;
  readonly spelling: AdapterSpelling;
}

export interface KeyContext {
  /** The component meant by keys that name none. */
  readonly component: string;
  /** Modules of the models by component, to resolve kohya's flattened names exactly; optional. */
  readonly modules?: Readonly<Record<string, Iterable<string>>>;
}

const COMPONENTS = ['unet', 'text_encoder', 'text_encoder_2', 'transformer'] as const;

/** Endings of dotted names; longer ones first where one ends like another. */
const ENDINGS: readonly (readonly [string, AdapterPart])[] = [
  ['.lora_linear_layer.down.weight', 'down'],
  ['.lora_linear_layer.up.weight', 'up'],
  ['.lora_A.default.weight', 'down'],
  ['.lora_B.default.weight', 'up'],
  ['.lora_magnitude_vector.default.weight', 'magnitude'],
  ['.lora_magnitude_vector.weight', 'magnitude'],
  ['.lora_magnitude_vector', 'magnitude'],
  ['.lora_A.weight', 'down'],
  ['.lora_B.weight', 'up'],
  ['.lora.down.weight', 'down'],
  ['.lora.up.weight', 'up'],
  ['.lora_down.weight', 'down'],
  ['.lora_up.weight', 'up'],
  ['.dora_scale', 'magnitude'],
  ['.alpha', 'alpha'],
];

/** The attention processors' own names, in UNets (`processor`) and in text encoders (`self_attn`). */
const PROCESSOR = /^(.*?)(\.processor|(?<=\.self_attn))\.(to_q|to_k|to_v|to_out)_lora\.(down|up)\.weight$/;
const PROCESSOR_MODULES: Readonly<Record<string, string>> = {
  to_q: 'to_q',
  to_k: 'to_k',
  to_v: 'to_v',
  to_out: 'to_out.0',
};
const TEXT_MODULES: Readonly<Record<string, string>> = {
  to_q: 'q_proj',
  to_k: 'k_proj',
  to_v: 'v_proj',
  to_out: 'out_proj',
};

const KOHYA = /^lora_(unet|te1|te2|te)_([^.]+)\.(lora_down\.weight|lora_up\.weight|alpha|dora_scale)$/;
const KOHYA_COMPONENTS: Readonly<Record<string, string>> = {
  unet: 'unet',
  te: 'text_encoder',
  te1: 'text_encoder',
  te2: 'text_encoder_2',
};
const KOHYA_PARTS: Readonly<Record<string, AdapterPart>> = {
  'lora_down.weight': 'down',
  'lora_up.weight': 'up',
  alpha: 'alpha',
  dora_scale: 'magnitude',
};

/** Reads adapter keys of any spelling; made once per file. */
export class AdapterKeyReader {
  /** kohya's flattened names to module names, by component. */
  readonly #flattened = new Map<string, Map<string, string>>();

  constructor(private readonly context: KeyContext) {
    for (const [component, modules] of Object.entries(context.modules ?? {})) {
      const flat = new Map<string, string>();
      for (const module of modules) flat.set(module.replaceAll('.', '_'), module);
      this.#flattened.set(component, flat);
    }
  }

  /** The key's meaning, or null when it is no adapter tensor this program knows. */
  parse(key: string): AdapterKey | null {
    const kohya = KOHYA.exec(key);
    if (kohya !== null) {
      const [, tool, flat, ending] = kohya as unknown as [string, string, string, string];
      const component = KOHYA_COMPONENTS[tool] as string;
      const module = this.#flattened.get(component)?.get(flat) ?? moduleOfKohya(flat);
      return { component, module, part: KOHYA_PARTS[ending] as AdapterPart, spelling: 'kohya' };
    }
    const peft = key.startsWith('base_model.model.');
    const bare = peft ? key.slice('base_model.model.'.length) : key;
    const { component, rest } = splitComponent(bare, this.context.component);
    const processor = PROCESSOR.exec(rest);
    if (processor !== null) {
      const [, attention, marker, projection, direction] = processor as unknown as [
        string,
        string,
        string,
        string,
        'down' | 'up',
      ];
      const names = marker === '' ? TEXT_MODULES : PROCESSOR_MODULES;
      return {
        component,
        module: `${attention}.${names[projection] as string}`,
        part: direction,
        spelling: 'processor',
      };
    }
    const ending = ENDINGS.find(([text]) => rest.endsWith(text) && rest.length > text.length);
    if (ending === undefined) return null;
    const spelling = peft ? 'peft' : rest.length < bare.length ? 'diffusers' : 'bare';
    return { component, module: rest.slice(0, -ending[0].length), part: ending[1], spelling };
  }
}

function splitComponent(key: string, fallback: string): { component: string; rest: string } {
  const dot = key.indexOf('.');
  const first = key.slice(0, dot);
  if (COMPONENTS.some((component) => component === first))
    return { component: first, rest: key.slice(dot + 1) };
  // A text tower's own names cannot be a UNet's.
  const component = fallback === 'unet' && first === 'text_model' ? 'text_encoder' : fallback;
  return { component, rest: key };
}

/** Parts of module names that hold an underscore themselves; everywhere else an underscore was a dot. */
const COMPOUNDS = new Set([
  'down_blocks',
  'up_blocks',
  'mid_block',
  'transformer_blocks',
  'time_emb_proj',
  'time_embedding',
  'add_embedding',
  'linear_1',
  'linear_2',
  'conv_in',
  'conv_out',
  'conv_shortcut',
  'proj_in',
  'proj_out',
  'to_q',
  'to_k',
  'to_v',
  'to_out',
  'text_model',
  'self_attn',
  'q_proj',
  'k_proj',
  'v_proj',
  'out_proj',
  'text_projection',
]);

function dotted(flat: string): string {
  const words = flat.split('_');
  const parts: string[] = [];
  for (let i = 0; i < words.length; ) {
    const length =
      [3, 2].find((n) => i + n <= words.length && COMPOUNDS.has(words.slice(i, i + n).join('_'))) ?? 1;
    parts.push(words.slice(i, i + length).join('_'));
    i += length;
  }
  return parts.join('.');
}

/** Resnet parts of the original Stable Diffusion code and their names in diffusers. */
const SGM_RESNET: readonly (readonly [string, string])[] = [
  ['in_layers_2', 'conv1'],
  ['out_layers_3', 'conv2'],
  ['emb_layers_1', 'time_emb_proj'],
  ['skip_connection', 'conv_shortcut'],
];
const SGM_TOP: Readonly<Record<string, string>> = {
  input_blocks_0_0: 'conv_in',
  out_2: 'conv_out',
  time_embed_0: 'time_embedding.linear_1',
  time_embed_2: 'time_embedding.linear_2',
  label_emb_0_0: 'add_embedding.linear_1',
  label_emb_0_2: 'add_embedding.linear_2',
};

/**
 * A module's name from kohya's flattened form, whether it was trained on the UNet of diffusers
 * (`down_blocks_0_…`) or, as SDXL usually is, on the original one (`input_blocks_4_1_…`; two resnets a block, as
 * in every Stable Diffusion).
 */
export function moduleOfKohya(flat: string): string {
  const top = SGM_TOP[flat];
  if (top !== undefined) return top;
  const match =
    /^(input_blocks|output_blocks)_(\d+)_(\d+)_(.+)$/.exec(flat) ??
    /^(middle_block)()_(\d+)_(.+)$/.exec(flat);
  if (match === null) return dotted(flat);
  const [, section, index, slot, rest] = match as unknown as [string, string, string, string, string];
  const j = Number(slot);
  if (section === 'middle_block')
    return `mid_block.${j === 1 ? 'attentions.0' : `resnets.${j / 2}`}.${sgmRest(rest)}`;
  const input = section === 'input_blocks';
  const i = Number(index) - (input ? 1 : 0);
  const block = `${input ? 'down' : 'up'}_blocks.${Math.floor(i / 3)}`;
  if (input && rest === 'op') return `${block}.downsamplers.0.conv`;
  if (!input && j > 0 && rest === 'conv') return `${block}.upsamplers.0.conv`;
  return `${block}.${j === 0 ? 'resnets' : 'attentions'}.${i % 3}.${sgmRest(rest)}`;
}

function sgmRest(rest: string): string {
  return SGM_RESNET.find(([name]) => name === rest)?.[1] ?? dotted(rest);
}
