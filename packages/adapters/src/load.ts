/** Adapter files of any spelling, put on the models of a pipeline. */
import { basename } from 'node:path';
import { EquipoiseError, invalid, type JobContext, nearest, ProgressCounter } from '@equipoise/core';
import { Linear, type Model } from '@equipoise/models';
import {
  type AdapterModule,
  type AdapterSpelling,
  openAdapter,
  readFloat32,
  type TensorSource,
} from '@equipoise/weights';
import * as tf from '@tensorflow/tfjs-core';
import { type Adapter, attach, checkFree } from './attach.js';
import { LowRankUpdate } from './low-rank.js';

/** The models an adapter may address, by component name: `unet`, `text_encoder`, `text_encoder_2`. */
export type AdapterModels = Readonly<Partial<Record<string, Model>>>;

export interface LoadAdapterOptions extends JobContext {
  /** Must be free on every layer. Default: the name of the file or folder. */
  readonly name?: string;
  /** Factor on the update. Default 1. */
  readonly weight?: number;
}

/** An adapter on several models of a pipeline, handled as one. */
export class AdapterGroup {
  constructor(
    readonly name: string,
    readonly spelling: AdapterSpelling,
    /** By component. */
    readonly parts: ReadonlyMap<string, Adapter>,
  ) {}

  get parameterCount(): number {
    return [...this.parts.values()].reduce((sum, part) => sum + part.parameterCount, 0);
  }

  get usesDora(): boolean {
    return [...this.parts.values()].some((part) => part.usesDora);
  }

  /** {@link Adapter.setWeight} for all parts. */
  setWeight(weight: number): void {
    for (const part of this.parts.values()) part.setWeight(weight);
  }

  /** {@link Adapter.merge} for all parts. */
  merge(...storage: Parameters<Adapter['merge']>): void {
    for (const part of this.parts.values()) part.merge(...storage);
  }

  /** {@link Adapter.unmerge} for all parts. */
  unmerge(): void {
    for (const part of this.parts.values()) part.unmerge();
  }

  /** {@link Adapter.remove} for all parts. */
  remove(): void {
    for (const part of this.parts.values()) part.remove();
  }
}

/**
 * Loads an adapter: a `.safetensors` file in any common spelling, or a folder saved by diffusers or PEFT. All of it is
 * compared with the models first; either everything is attached or nothing.
 *
 * The scale s of each layer is alpha / rank (or alpha / sqrt rank) with alpha from the file's tensors or settings, and
 * 1 where it has neither.
 *
 * @throws EquipoiseError `conflict` for an adapter made for another architecture, listing each layer that is not
 * there (with the nearest one) or has another shape; `corrupt` for NaN and infinities; otherwise as `openAdapter`
 */
export async function loadAdapter(
  path: string,
  models: AdapterModels,
  options: LoadAdapterOptions = {},
): Promise<AdapterGroup> {
  const name = options.name ?? basename(path).replace(/\.safetensors$/, '');
  const present = Object.entries(models).filter((entry): entry is [string, Model] => entry[1] !== undefined);
  const modules = Object.fromEntries(
    present.map(([component, model]) => [component, [...model.namedModules()].map(([module]) => module)]),
  );
  await using file = await openAdapter(path, { modules });
  const fits: [string, Model, Map<string, FittedLayer>][] = [];
  for (const [component, entries] of file.components) {
    const model = models[component];
    if (model === undefined) throw unknownComponent(file.path, component, Object.keys(modules));
    const layers = fit(file.path, model, entries);
    checkFree(name, new Map([...layers].map(([layer, fitted]) => [layer, fitted.layer])));
    fits.push([component, model, layers]);
  }
  const total = fits.reduce((sum, [, , layers]) => sum + layers.size, 0);
  const progress = new ProgressCounter(`load adapter ${name}`, options, { total, unit: 'layer' });
  const read: [string, Model, Map<string, LowRankUpdate>][] = [];
  try {
    for (const [component, model, layers] of fits) {
      const updates = new Map<string, LowRankUpdate>();
      read.push([component, model, updates]);
      for (const [layer, fitted] of layers) {
        updates.set(layer, await readUpdate(fitted));
        progress.advance();
      }
    }
  } catch (error) {
    for (const [, , updates] of read) for (const update of updates.values()) update.dispose();
    throw error;
  }
  const parts = new Map(read.map(([component, model, updates]) => [component, attach(model, name, updates)]));
  const group = new AdapterGroup(name, file.spelling, parts);
  if (options.weight !== undefined) group.setWeight(options.weight);
  return group;
}

interface FittedLayer {
  readonly layer: Linear;
  readonly entry: AdapterModule;
}

/** How many misfits an error lists. */
const LISTED = 10;

/** Finds each layer of an adapter in the model, or says what does not fit. */
function fit(
  path: string,
  model: Model,
  entries: ReadonlyMap<string, AdapterModule>,
): Map<string, FittedLayer> {
  const modules = new Map(model.namedModules());
  const linears = new Map(model.namedLinears());
  const layers = new Map<string, FittedLayer>();
  const unknown: string[] = [];
  const misshapen: string[] = [];
  for (const [module, entry] of entries) {
    // Without the tower's own prefix in transformers 5.
    const name = [module, `text_model.${module}`].find((candidate) => modules.has(candidate)) ?? module;
    const layer = modules.get(name);
    if (layer instanceof Linear) {
      const problem = shapeProblem(entry, layer);
      if (problem === null) layers.set(name, { layer, entry });
      else misshapen.push(`  ${JSON.stringify(name)}: ${problem}`);
    } else {
      // Edit distance to every name is dear: only for those that will be listed.
      const close = unknown.length < LISTED ? nearest(module, linears.keys()) : undefined;
      const what = layer === undefined ? 'no such layer' : 'not a linear layer, the only kind adapted here';
      unknown.push(
        `  ${JSON.stringify(module)}: ${what}${close === undefined ? '' : `; nearest: ${JSON.stringify(close)}`}`,
      );
    }
  }
  if (unknown.length + misshapen.length === 0) return layers;
  const head = `${path}: expected an adapter for this ${model.constructor.name}, got one for another: of ${entries.size} layers ${unknown.length} are not in it and ${misshapen.length} have other shapes`;
  throw new EquipoiseError('conflict', [head, ...listed(unknown), ...listed(misshapen)].join('\n'), {
    hints: widthHint(entries, linears),
  });
}

function listed(lines: readonly string[]): string[] {
  return lines.length > LISTED
    ? [...lines.slice(0, LISTED), `  … and ${lines.length - LISTED} more`]
    : [...lines];
}

function shapeProblem({ down, up, rank }: AdapterModule, { inFeatures, outFeatures }: Linear): string | null {
  const [, actualIn, ...kernel] = down.shape as [number, number, ...number[]];
  if (kernel.some((side) => side !== 1))
    return `expected matrices, got a convolution of size ${kernel.join(' x ')}`;
  if (actualIn !== inFeatures)
    return `expected lora_A [${rank}, ${inFeatures}], got [${down.shape.join(', ')}]`;
  if (up.shape[0] !== outFeatures)
    return `expected lora_B [${outFeatures}, ${rank}], got [${up.shape.join(', ')}]`;
  return null;
}

/** The width of the text tells the families of Stable Diffusion apart. */
const FAMILIES: Readonly<Record<number, string>> = {
  768: 'Stable Diffusion 1',
  1024: 'Stable Diffusion 2',
  2048: 'Stable Diffusion XL',
};

function widthHint(
  entries: ReadonlyMap<string, AdapterModule>,
  linears: ReadonlyMap<string, Linear>,
): string[] {
  const isText = (module: string): boolean => /\.attn2\.to_[kv]$/.test(module);
  const theirs = [...entries].find(([module]) => isText(module))?.[1].down.shape[1];
  const ours = [...linears].find(([module]) => isText(module))?.[1].inFeatures;
  if (theirs === undefined || ours === undefined || theirs === ours) return [];
  const family = (width: number): string => (FAMILIES[width] === undefined ? '' : ` (${FAMILIES[width]})`);
  return [
    `The adapter was made for text of width ${theirs}${family(theirs)}; this model's has ${ours}${family(ours)}.`,
  ];
}

function unknownComponent(path: string, component: string, known: readonly string[]): EquipoiseError {
  return new EquipoiseError(
    'conflict',
    `${path}: expected an adapter for ${known.join(', ')}, got one for ${component} too`,
    {
      hints:
        component === 'text_encoder_2'
          ? ['It was made for Stable Diffusion XL, which has two text encoders.']
          : [],
    },
  );
}

async function readUpdate({ layer, entry }: FittedLayer): Promise<LowRankUpdate> {
  const { inFeatures, outFeatures } = layer;
  const [down, up, magnitude] = [
    await readFinite(entry.down),
    await readFinite(entry.up),
    entry.magnitude && (await readFinite(entry.magnitude)),
  ];
  const tensors = {
    down: tf.tensor2d(down, [entry.rank, inFeatures]),
    up: tf.tensor2d(up, [outFeatures, entry.rank]),
    magnitude: magnitude === undefined ? null : tf.tensor1d(magnitude),
  };
  const update = new LowRankUpdate(layer, tensors, entry.scaling);
  for (const tensor of Object.values(tensors)) tensor?.dispose();
  return update;
}

/** A tuning that went wrong leaves NaN, and one of them makes every picture NaN, whatever the adapter's weight. */
async function readFinite(source: TensorSource): Promise<Float32Array> {
  const values = await readFloat32(source);
  const bad = values.findIndex((value) => !Number.isFinite(value));
  if (bad < 0) return values;
  const name = `${source.origin}: tensor ${JSON.stringify(source.name)}[${bad}]`;
  throw invalid(name, 'a finite number', values[bad], { code: 'corrupt' });
}
