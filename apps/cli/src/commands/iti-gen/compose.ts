import { defineOptions, option, z } from '@equipoise/core';
import { composeTokens, JOINS, listCombinations, loadTokens, saveTokens } from '@equipoise/iti-gen';
import { defineCommand } from '../../command.js';

const options = defineOptions('iti-gen compose', {
  tokens: option(z.array(z.string()).min(2), 'Files of inclusive tokens that were learned apart.', {
    placeholder: 'file',
  }),
  join: option(z.enum(JOINS).optional(), 'How they stand in a prompt. Default: as the first file says.'),
  out: option(z.string(), 'File for the composed tokens.', { placeholder: 'file.safetensors' }),
});

export const itiGenCompose = defineCommand({
  options,
  positionals: ['tokens'],
  description:
    'Puts tokens of attributes that were learned apart into one file. Wherever it is used (iti-gen generate, iti-gen prepend), every combination of their categories is drawn with its tokens, summed or side by side.\n\nThe files must belong to the same CLIP model, token length and layout, and no attribute may be in two of them.',
  examples: [
    'equipoise iti-gen compose age/tokens.safetensors skin/tokens.safetensors --out both.safetensors',
  ],
  async run({ tokens: files, join, out }, context) {
    const tokens = composeTokens(await Promise.all(files.map((file) => loadTokens(file))), join);
    await saveTokens(out, tokens);
    context.print(
      JSON.stringify(
        {
          tokens: out,
          attributes: Object.fromEntries(tokens.attributes.map(({ name, categories }) => [name, categories])),
          combinations: listCombinations({ attributes: tokens.attributes }).length,
        },
        null,
        2,
      ),
    );
    return 0;
  },
});
