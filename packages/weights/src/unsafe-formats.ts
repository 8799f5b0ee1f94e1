/** Weight files that are not safetensors: recognised, and refused with the reason and the way out. */
import { basename, extname } from 'node:path';
import { EquipoiseError } from '@equipoise/core';

const PICKLE_EXTENSIONS = new Set(['.bin', '.pt', '.pth', '.ckpt', '.pkl', '.pickle']);

/** Whether a name is that of a pickle file, such as `pytorch_model.bin`. */
export function isPickleName(path: string): boolean {
  return PICKLE_EXTENSIONS.has(extname(path).toLowerCase());
}

/** Throws an EquipoiseError `unsafe` for names such as `pytorch_model.bin` and `model.ckpt`. */
export function refusePickleName(path: string): void {
  if (isPickleName(path)) throw pickleError(path);
}

/** The refusal of a pickle file. */
export function pickleError(path: string): EquipoiseError {
  return new EquipoiseError(
    'unsafe',
    `${path}: expected a .safetensors file, got a pickle (${extname(path) || basename(path)}), which can run any code when opened`,
    {
      hints: [
        'Look for a .safetensors file beside it: most repositories have one.',
        'Or convert it in Python, where you trust its author: ' +
          'Pipeline.from_pretrained(folder).save_pretrained(new_folder, safe_serialization=True).',
      ],
    },
  );
}

/**
 * Recognises other formats by their first bytes, to say more than "the header is too long".
 *
 * @param prefix the first eight bytes, or fewer
 */
export function refuseForeignFormat(prefix: Uint8Array, path: string): void {
  const starts = (...bytes: number[]): boolean => bytes.every((byte, i) => prefix[i] === byte);
  // A zip archive (torch.save since 1.6) and a bare pickle of protocol 2 to 5.
  const barePickle =
    prefix[0] === 0x80 && (prefix[1] ?? 0) >= 2 && (prefix[1] ?? 0) <= 5 && looksLikeHugeHeader(prefix);
  if (starts(0x50, 0x4b, 0x03, 0x04) || barePickle) throw pickleError(path);
  if (starts(...Buffer.from('version '))) {
    throw new EquipoiseError(
      'corrupt',
      `${path}: expected tensors, got a Git LFS pointer: the file itself was not downloaded`,
      {
        hints: ['Run `git lfs pull` in its repository.'],
      },
    );
  }
  if (starts(...Buffer.from('GGUF'))) {
    throw new EquipoiseError('unsupported', `${path}: expected a safetensors file, got GGUF`);
  }
  if (starts(...Buffer.from('<!DOC')) || starts(...Buffer.from('<html'))) {
    throw new EquipoiseError(
      'corrupt',
      `${path}: expected a safetensors file, got a web page: the download went wrong`,
    );
  }
}

/** A header length above the format's limit: the file cannot be safetensors. */
function looksLikeHugeHeader(prefix: Uint8Array): boolean {
  return prefix.subarray(4, 8).some((byte) => byte !== 0);
}
