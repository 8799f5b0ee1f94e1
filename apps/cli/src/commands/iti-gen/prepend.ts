import { defineOptions, option, z } from '@equipoise/core';
import {
  composeTokens,
  inclusivePrompts,
  loadClip,
  loadTokens,
  savePromptEmbeddings,
  saveTokens,
} from '@equipoise/iti-gen';
import { defineCommand } from '../../command.js';
import { engineOptions, openEngine } from '../../engine-options.js';

const options = defineOptions('iti-gen prepend', {
  tokens: option(
    z.array(z.string()).min(1),
    'Files of inclusive tokens; those of several files are summed.',
    { placeholder: 'file' },
  ),
  clip: option(z.string(), 'Folder of the CLIP model they were learned with.', { placeholder: 'folder' }),
  tokenizer: option(z.string().optional(), 'Folder of the tokenizer. Default: the CLIP folder.', {
    placeholder: 'folder',
  }),
  prompt: option(
    z.string().optional(),
    'Another prompt ("train once for all"). Default: the one they were learned with.',
  ),
  out: option(z.string(), 'File for the prompt embeddings.', { placeholder: 'file.safetensors' }),
  saveTokens: option(z.string().optional(), 'File for the composed tokens.', {
    placeholder: 'file.safetensors',
  }),
  ...engineOptions,
});

export const itiGenPrepend = defineCommand({
  options,
  positionals: ['tokens'],
  description:
    'Applies learned inclusive tokens to a prompt, its own or another one, and composes tokens that were learned apart.\n\nWrites prompt embeddings, one row per combination of categories.',
  examples: [
    'equipoise iti-gen prepend age.safetensors skin.safetensors --clip clip/ --prompt "a photo of a doctor" --out doctor.safetensors',
  ],
  async run(
    { tokens: files, clip: folder, tokenizer, prompt, out, saveTokens: target, engine, precision },
    context,
  ) {
    await openEngine({ engine, precision });
    const clip = await loadClip(folder, { tokenizer });
    const tokens = composeTokens(await Promise.all(files.map((file) => loadTokens(file))));
    const prompts = await inclusivePrompts(tokens, clip.clip, clip.hash, clip.tokenizer, prompt);
    await savePromptEmbeddings(out, prompts);
    if (target !== undefined) await saveTokens(target, tokens);
    context.print(
      JSON.stringify(
        {
          promptEmbeds: out,
          prompt: prompts.prompt,
          combinations: prompts.combinations.map(({ labels }) => labels),
        },
        null,
        2,
      ),
    );
    return 0;
  },
});
