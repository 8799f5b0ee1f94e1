/** `--adapter` of `equipoise generate`. */
import { type AdapterGroup, loadAdapter } from '@equipoise/adapters';
import { exists, invalid, type JobContext } from '@equipoise/core';
import type { PipelineParts } from '@equipoise/diffusion';
import { resolveModel } from '@equipoise/weights';

export interface AdapterChoice {
  /** As the user gave it. */
  readonly path: string;
  readonly weight: number;
}

/**
 * Reads `FILE`, `FOLDER` or a hub id, each optionally followed by `=WEIGHT`. What exists under the whole text is taken
 * as a path.
 */
export async function parseAdapter(text: string): Promise<AdapterChoice> {
  const match = /^(.+)=([^=/\\]*)$/.exec(text);
  if (match === null || (await exists(text))) return { path: text, weight: 1 };
  const [, path, number] = match as unknown as [string, string, string];
  const weight = number.trim() === '' ? Number.NaN : Number(number);
  if (!Number.isFinite(weight)) throw invalid('--adapter', 'FILE or FILE=WEIGHT with a finite weight', text);
  return { path, weight };
}

/** Puts adapters on a pipeline's models, in order. `loaded` receives each, also when a later one fails: to free them. */
export async function applyAdapters(
  parts: PipelineParts,
  adapters: readonly AdapterChoice[],
  loaded: AdapterGroup[],
  context: JobContext,
): Promise<void> {
  const { unet, textEncoder, textEncoder2 } = parts;
  for (const { path, weight } of adapters) {
    const local = await resolveModel(path, context);
    loaded.push(
      await loadAdapter(
        local,
        { unet, text_encoder: textEncoder, text_encoder_2: textEncoder2 },
        { ...context, name: path, weight },
      ),
    );
  }
}
