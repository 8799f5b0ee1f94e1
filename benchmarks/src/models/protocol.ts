/** What the full-size benchmark asks of both sides. */
import type { Work } from '../measure/work.js';

export type ModelKind = 'unet' | 'text' | 'vae';

export type ModelRequest =
  /** Loads FOLDER/unet, FOLDER/text_encoder or FOLDER/vae in bf16; the peer also knows a memory layout. */
  | {
      readonly op: 'load';
      readonly folder: string;
      readonly model: ModelKind;
      readonly layout?: 'default' | 'channels_last';
      readonly threads?: number;
    }
  /** One forward: 64 x 64 latents and 77 x 1024 contexts, 77 tokens, or latents to 512 x 512 pixels. */
  | { readonly op: 'run'; readonly batch: number }
  /** Ours only: the same, with the work that the device has in it. */
  | { readonly op: 'count'; readonly batch: number }
  /** Ours only: reads a file into fresh memory of its size, or through one buffer. */
  | { readonly op: 'read'; readonly path: string; readonly fresh: boolean };

export type ModelReply =
  | { readonly seconds: number; readonly peakBytes: number; readonly work?: Work }
  | { readonly error: string };
