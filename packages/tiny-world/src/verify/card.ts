/** The model card: what the weights are, how they came to be, what they measure, and what they are not for. */

import type { TrainingRecord } from '../train/export.js';
import type { Recipe, StageRecipe } from '../train/recipe.js';
import { COLORS, SHAPES, SKIN_TONES, STYLES, TEXTURES } from '../world/attributes.js';
import { BIAS } from '../world/bias.js';
import type { Measurements } from './measure.js';
import type { Requirement } from './requirements.js';
import type { SampleGrid } from './samples.js';

/** What the card says that is not measured. */
export interface CardFacts {
  readonly training: TrainingRecord;
  /** Bytes of all weight files. */
  readonly weightBytes: number;
  readonly parameters: Readonly<Record<string, number>>;
  /** Relative paths of the loss curves. */
  readonly curves: readonly string[];
  readonly grids: readonly SampleGrid[];
  /** Relative folder of the grids' pictures. */
  readonly pictures: string;
}

type Row = readonly (string | number)[];

function table(header: Row, rows: readonly Row[]): string {
  const line = (row: Row): string => `| ${row.join(' | ')} |`;
  return [line(header), line(header.map(() => '---')), ...rows.map(line)].join('\n');
}

function percent(value: number): string {
  return `${(100 * value).toFixed(1)} %`;
}

function scoreText(name: string, value: number): string {
  if (name === 'vae psnr') return `${value.toFixed(2)} dB`;
  return name.includes('error') ? value.toFixed(4) : percent(value);
}

function requirementRows(list: readonly Requirement[]): Row[] {
  return list.map(({ name, actual, least, most, met }) => [
    name,
    actual.toFixed(3),
    most === Number.POSITIVE_INFINITY ? `at least ${least}` : `${least} to ${most}`,
    met ? 'yes' : '**no**',
  ]);
}

function weightsText(weights: object): string {
  const entries = Object.entries(weights as Record<string, unknown>);
  return entries
    .map(([key, value]) => `${key} ${Array.isArray(value) ? value.join(' ') : String(value)}`)
    .join(', ');
}

function biasRows(): Row[] {
  const { mention, ...frequencies } = BIAS;
  const rows = Object.entries(frequencies).map(
    ([name, value]): Row => [name, typeof value === 'number' ? value : weightsText(value)],
  );
  const mentioned = Object.entries(mention).map(
    ([name, value]): Row => [
      `named in the caption: ${name}`,
      typeof value === 'number' ? value : weightsText(value),
    ],
  );
  return [...rows, ...mentioned];
}

function recipeRows(recipe: Recipe): Row[] {
  return (['clip', 'vision', 'vae', 'judges', 'unet'] as const).map((name) => {
    const { steps, batch, optimizer, average }: StageRecipe = recipe[name];
    const { rate, beta1, beta2, weightDecay } = optimizer;
    return [
      name,
      steps,
      batch,
      rate.peak,
      rate.warmup,
      `${beta1}, ${beta2}`,
      weightDecay,
      `${average.decay} every ${average.every}`,
    ];
  });
}

/** A sentence on how far the denoiser got, where it was not to the end. */
function progressText({ step, steps }: TrainingRecord['denoiser']): string {
  return step === steps ? '' : `**These weights are not fully trained:** update ${step} of ${steps}.\n\n`;
}

function measuredText({ settings, scores, headshots }: Measurements, checks: readonly Requirement[]): string {
  return `## Measured

DDIM, ${settings.steps} steps, guidance ${settings.guidance}, seed ${settings.seed}, ${settings.count} pictures a suite. The judges were trained on a split of
their own and are measured on held-out drawings; on generated pictures they are compared with a rule-based detector.

${table(['required', 'measured', 'range', 'met'], requirementRows(checks))}

${table(
  ['score', 'value'],
  Object.entries(scores).map(([name, value]) => [name, scoreText(name, value)]),
)}

"a headshot of a person":

${table(
  ['attribute', 'shares', 'KL to uniform'],
  Object.entries(headshots).map(([name, { shares, klToUniform }]) => [
    name,
    Object.entries(shares)
      .map(([value, part]) => `${value} ${percent(part)}`)
      .join(', '),
    klToUniform.toFixed(3),
  ]),
)}`;
}

/** The card as Markdown. */
export function modelCard(measured: Measurements, checks: readonly Requirement[], facts: CardFacts): string {
  const { recipe, denoiser } = facts.training;
  const total = Object.values(facts.parameters).reduce((sum, count) => sum + count, 0);
  return `# Tiny-world

A Stable Diffusion of ${(total / 1e6).toFixed(1)} million parameters for 64 x 64 pictures, in diffusers' folder format: UNet2DConditionModel,
AutoencoderKL (16 x 16 x 4 latents), a CLIP with both towers (\`clip/\`), whose text tower conditions the UNet, and
two judges (\`judges/\`). It was trained from scratch by this repository, on its own engine, on pictures this
repository draws. It exists so that the whole program can be run, tested and measured anywhere; it knows nothing
but its drawn world.

All files together: ${(facts.weightBytes / 2 ** 20).toFixed(2)} MiB in float16. Parameters: ${weightsText(facts.parameters)}.

## Data

${recipe.pictures.train} training pictures, seed ${recipe.seed}, drawn as SVG: compositional scenes (${COLORS.length} colors: ${COLORS.join(', ')};
${SHAPES.length} shapes: ${SHAPES.join(', ')}; ${TEXTURES.length} textures: ${TEXTURES.join(', ')}; positions, counts) and cartoon headshots
(skin tone: ${SKIN_TONES.join(', ')}; eyeglasses, hair length and color, hat, beard, smile, age; styles: ${STYLES.join(', ')}).
Captions follow the phrasing of T2I-CompBench's categories. No caption says that something is absent.

### Bias, on purpose

Weights are relative, single numbers are probabilities.

${table(['quantity', 'value'], biasRows())}

## Recipe

Noise prediction with the scaled-linear schedule of Stable Diffusion; loss weights min(SNR, ${recipe.unet.snrClamp}) / SNR;
${percent(recipe.unet.captionDropout)} of captions replaced by the empty one. Autoencoder: absolute, squared and gradient error, KL weight ${recipe.vae.klWeight},
random crops of ${recipe.vae.crop} pixels for the first ${percent(1 - recipe.vae.wholeShare)} of the updates.
CLIP: both towers together (\`clip\`), each text state also telling its own word (weight ${recipe.clip.wordWeight}); then the vision tower alone
against the locked text tower (\`vision\`); a caption that is wrong in one word beside every right one. Adam with decoupled
weight decay, linear warm-up, cosine decay; the shipped weights are moving averages.

${table(['stage', 'updates', 'batch', 'rate', 'warm-up', 'betas', 'decay', 'average'], recipeRows(recipe))}

${progressText(denoiser)}Reproduce with \`npm run tiny-world:train\`, then \`npm run tiny-world:verify\`.

## Loss curves

${facts.curves.map((path) => `![loss](${path})`).join('\n')}

${measuredText(measured, checks)}

## Samples

Sixteen pictures each, not selected.

${facts.grids.map(({ name, title }) => `**${title}**\n\n![${title}](${facts.pictures}/${name}.png)`).join('\n\n')}

## Limits

The model draws its world and nothing else: any other word is noise to it. Its people are cartoons with few
attributes; its biases were put there to be found and must not be read as statements about people. Negations are
not understood. It is too small and its pictures too few for conclusions about other models' quality.
`;
}
