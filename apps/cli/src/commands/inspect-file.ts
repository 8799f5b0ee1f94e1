/** `equipoise inspect` on one file: safetensors of any kind, or an image. */
import { readFile, stat } from 'node:fs/promises';
import { EquipoiseError, invalid, prose } from '@equipoise/core';
import { readPngSettings } from '@equipoise/diffusion';
import { decodeImage } from '@equipoise/models';
import {
  type AdapterModule,
  openAdapter,
  openSafetensors,
  type SafetensorsFile,
  summarizeTensors,
  type TensorSource,
} from '@equipoise/weights';
import {
  type AdapterPart,
  collect,
  type Inspection,
  type InspectOptions,
  tensorRows,
} from './inspect-report.js';
import { checkValues } from './inspect-values.js';

/** The family of Stable Diffusion that attends to text of a width. */
export function familyOf(textWidth: number | undefined): string {
  if (textWidth === 768) return 'Stable Diffusion 1';
  if (textWidth === 1024) return 'Stable Diffusion 2';
  if (textWidth === 2048) return 'Stable Diffusion XL';
  return textWidth === undefined ? 'an unknown family' : `text of width ${textWidth}`;
}

const ADAPTER_KEY =
  /\.lora[._](A|B|down|up)|_lora\.(down|up)\.|lora_linear_layer|\.dora_scale$|lora_magnitude_vector/;

/** @throws EquipoiseError `missing` when there is no such file, `unsupported` for other kinds */
export async function inspectFile(path: string, options: InspectOptions): Promise<Inspection> {
  const lower = path.toLowerCase();
  if (lower.endsWith('.png')) return inspectPng(path);
  if (/\.(json|ya?ml|txt|jpe?g|webp|gif|csv|md)$/.test(lower)) {
    throw invalid(path, 'a .safetensors or .png file, or a folder', prose('another kind of file'), {
      code: 'unsupported',
    });
  }
  const problems: string[] = [];
  let report: Inspection | undefined;
  await collect(problems, async () => {
    await using file = await openSafetensors(path);
    report = await inspectTensors(file, options);
  });
  return (
    report ?? {
      path,
      kind: 'tensors',
      architecture: 'unreadable',
      parts: [],
      tensors: [],
      problems,
      notices: [],
    }
  );
}

/** Whether a file's tensors are those of a LoRA or DoRA. */
export function isAdapter(file: SafetensorsFile): boolean {
  return [...file.tensors.keys()].some((name) => ADAPTER_KEY.test(name));
}

async function inspectTensors(file: SafetensorsFile, options: InspectOptions): Promise<Inspection> {
  const names = [...file.tensors.keys()];
  const sources = [...file.tensors.values()];
  const problems: string[] = [];
  const common = {
    path: file.path,
    parts: [],
    summary: summarizeTensors(sources),
    metadata: Object.fromEntries(file.metadata),
    tensors: options.tensors ? tensorRows(sources) : [],
    problems,
    notices: [] as string[],
  };
  if (options.values) await checkValues(sources, problems, options.signal);
  if (isAdapter(file)) {
    let adapter: Inspection['adapter'];
    await collect(problems, async () => void (adapter = await describeAdapter(file.path)));
    return { ...common, kind: 'adapter', architecture: adapterText(adapter), ...(adapter && { adapter }) };
  }
  if (names.includes('prompt_embeds')) {
    const shape = file.get('prompt_embeds').shape;
    return {
      ...common,
      kind: 'prompt embeddings',
      architecture: `${shape[0]} prompts of ${shape[1]} positions for ${familyOf(shape[2])}`,
    };
  }
  const { architecture, problem } = guessArchitecture(file.tensors);
  if (problem !== undefined) problems.push(`${file.path}: ${problem}`);
  return { ...common, kind: 'tensors', architecture };
}

/** Layers, ranks and scales of an adapter. */
export async function describeAdapter(path: string): Promise<NonNullable<Inspection['adapter']>> {
  await using file = await openAdapter(path);
  const parts = [...file.components].map(([component, modules]): AdapterPart => {
    const entries = [...modules.values()];
    const distinct = (of: (entry: AdapterModule) => number): number[] =>
      [...new Set(entries.map(of))].sort((a, b) => a - b);
    const size = ({ shape }: TensorSource): number => shape.reduce((product, side) => product * side, 1);
    const parameters = entries.reduce(
      (sum, { down, up, magnitude }) => sum + size(down) + size(up) + (magnitude ? size(magnitude) : 0),
      0,
    );
    return {
      component,
      layers: modules.size,
      parameters,
      ranks: distinct(({ rank }) => rank),
      scalings: distinct(({ scaling }) => scaling),
    };
  });
  return { spelling: file.spelling, dora: file.usesDora, parts };
}

export function adapterText(adapter: Inspection['adapter']): string {
  return adapter === undefined
    ? 'unreadable'
    : `${adapter.dora ? 'DoRA' : 'LoRA'} as ${adapter.spelling} spells it`;
}

/** What a file of bare tensors is, by its names and shapes. */
export function guessArchitecture(tensors: ReadonlyMap<string, TensorSource>): {
  architecture: string;
  problem?: string;
} {
  const names = [...tensors.keys()];
  const has = (pattern: RegExp): boolean => names.some((name) => pattern.test(name));
  const width = (pattern: RegExp, axis: number): number | undefined =>
    tensors.get(names.find((name) => pattern.test(name)) ?? '')?.shape[axis];
  if (has(/^model\.diffusion_model\./)) {
    return {
      architecture: 'a single-file Stable Diffusion checkpoint in the original layout',
      problem:
        'expected a folder in the layout of diffusers, got a single-file checkpoint; convert it in Python with StableDiffusionPipeline.from_single_file(file).save_pretrained(folder)',
    };
  }
  if (has(/^down_blocks\./) && has(/^up_blocks\./))
    return { architecture: `UNet2DConditionModel of ${familyOf(width(/attn2\.to_k\.weight$/, 1))}` };
  if (has(/^encoder\.down_blocks\./) && has(/^decoder\.up_blocks\./))
    return {
      architecture: `AutoencoderKL with ${width(/^decoder\.conv_in\.weight$/, 1) ?? 'unknown'} latent channels`,
    };
  const [text, vision] = [
    has(/^(text_model\.)?embeddings\.token_embedding\./),
    has(/^(vision_model\.)?embeddings\.patch_embedding\./),
  ];
  if (text && vision) return { architecture: 'CLIPModel' };
  if (text)
    return {
      architecture: `CLIPTextModel${has(/^text_projection\./) ? 'WithProjection' : ''} of width ${width(/token_embedding\.weight$/, 1)}`,
    };
  if (vision)
    return {
      architecture: `CLIPVisionModel${has(/^visual_projection\./) ? 'WithProjection' : ''} of width ${width(/class_embedding$/, 0)}`,
    };
  return { architecture: names.length === 0 ? 'nothing in it' : 'of no architecture known here' };
}

/** Images larger than this are not read for their settings. */
const MAX_IMAGE_BYTES = 1 << 28;

async function inspectPng(path: string): Promise<Inspection> {
  const info = await stat(path).catch(() => undefined);
  if (info === undefined) throw new EquipoiseError('missing', `${path}: no such file`);
  if (info.size > MAX_IMAGE_BYTES)
    throw invalid(path, `a PNG of at most ${MAX_IMAGE_BYTES} bytes`, info.size, { code: 'unsupported' });
  const problems: string[] = [];
  let [settings, architecture]: [unknown, string] = [undefined, 'unreadable'];
  await collect(problems, async () => {
    settings = readPngSettings(await readFile(path), path);
    const { width, height } = await decodeImage(path);
    architecture = `${width} x ${height} pixels${settings === undefined ? ' without settings' : ''}`;
  });
  return {
    path,
    kind: 'image',
    architecture,
    parts: [],
    tensors: [],
    problems,
    notices: [],
    ...(settings !== undefined && { settings }),
  };
}
