import { invalid, nearest, prose } from '@equipoise/core';
import type { KernelFamily, Sizes } from './case.js';
import { matrixFamilies } from './matrix-families.js';
import { pointwiseFamilies } from './pointwise-families.js';
import { trainingFamilies } from './training-families.js';

/** Every kernel that is timed. A fused kernel that no family lists fails the agreement test. */
export const kernelFamilies = [...matrixFamilies, ...pointwiseFamilies, ...trainingFamilies];

/** A family at sizes that somebody asks for. */
export interface ChosenCase {
  readonly family: KernelFamily;
  readonly sizes: Sizes;
}

/**
 * Reads `FAMILY:SIZE=N,SIZE=N`, for instance `linear:m=4096,k=320,n=320`.
 *
 * @throws EquipoiseError `invalid` that names the families, or the sizes of the family
 */
export function parseCase(text: string): ChosenCase {
  const [name = '', rest = ''] = text.split(/:(.*)/);
  const family = kernelFamilies.find((item) => item.name === name);
  if (family === undefined) {
    const names = kernelFamilies.map((item) => item.name);
    const closest = nearest(name, names);
    throw invalid('--case', `a family (${names.join(', ')}) and its sizes`, text, {
      hints: closest === undefined ? [] : [`Did you mean ${closest}?`],
    });
  }
  const keys = Object.keys(family.sizes[0] as Sizes);
  const form = `${name}:${keys.map((key) => `${key}=N`).join(',')}`;
  const given = rest.split(',').map((part) => /^(\w+)=(\d{1,9})$/.exec(part.trim()));
  const sizes = Object.fromEntries(given.map((match) => [match?.[1] ?? '', Number(match?.[2])]));
  const wrong = given.length !== keys.length || keys.some((key) => !((sizes[key] as number) >= 1));
  if (wrong) throw invalid('--case', form, rest === '' ? prose('no sizes') : text);
  return { family, sizes };
}
