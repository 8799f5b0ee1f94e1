/** Scores of compositional prompts, by the binding judge and the rule-based detector. */
import { detectObjects, standsIn } from '../judges/detector.js';
import type { JudgeNetwork } from '../judges/network.js';
import { readScene, type SeenObject } from '../judges/scene-judge.js';
import { judgeOutputs } from '../judges/tasks.js';
import { IMAGE_BYTES } from '../world/render.js';
import type { ScenePrompt, Wanted } from './prompts.js';

/** What was found in one generated picture. */
export interface SceneFinding {
  /** Every wanted shape is there, whatever its colour. */
  readonly shapes: boolean;
  /** Every wanted colour is there, whatever it is on. */
  readonly colors: boolean;
  /** Every wanted object is there with its own colour and texture. */
  readonly bound: boolean;
  /** Every wanted texture is on its shape. */
  readonly textures: boolean;
  /** The wanted relation holds; null where none is wanted or an object is missing. */
  readonly relation: boolean | null;
  /** The detector finds each colour that the judge names, and no other; null when the judge sees nothing. */
  readonly agreement: boolean | null;
  readonly confidence: number;
}

/** Judges one generated picture for each prompt. */
export async function findScenes(
  judge: JudgeNetwork,
  prompts: readonly ScenePrompt[],
  images: Uint8Array,
): Promise<SceneFinding[]> {
  const outputs = await judgeOutputs(
    judge,
    images,
    prompts.map((_, index) => index),
  );
  return prompts.map((prompt, index) => {
    const image = images.subarray(index * IMAGE_BYTES, (index + 1) * IMAGE_BYTES);
    return finding(prompt, readScene(outputs[index]!), image);
  });
}

function finding(prompt: ScenePrompt, seen: readonly SeenObject[], image: Uint8Array): SceneFinding {
  const fits = (object: SeenObject, { shape, color, texture }: Wanted): boolean =>
    object.shape === shape &&
    (color === undefined || object.color === color) &&
    (texture === undefined || object.texture === texture);
  const find = (wanted: Wanted): SeenObject | undefined => seen.find((object) => fits(object, wanted));
  const has = (wanted: Wanted): boolean => find(wanted) !== undefined;
  const detected = new Set(detectObjects(image).map((object) => object.color));
  const named = new Set(seen.map((shape) => shape.color));
  const [first, second] = prompt.objects.map(find);
  return {
    shapes: prompt.objects.every(({ shape }) => has({ shape })),
    colors: prompt.objects.every(({ color }) => color === undefined || named.has(color)),
    textures: prompt.objects.every(({ shape, texture }) => has(texture ? { shape, texture } : { shape })),
    bound: prompt.objects.every(has),
    relation: prompt.relation && first && second ? standsIn(prompt.relation, first, second) : null,
    agreement:
      seen.length === 0
        ? null
        : named.size === detected.size && [...named].every((color) => detected.has(color)),
    confidence: Math.min(1, ...seen.map((shape) => shape.confidence)),
  };
}

/** Share of findings for which `test` holds; those for which it is null do not count. */
export function share(
  findings: readonly SceneFinding[],
  test: (finding: SceneFinding) => boolean | null,
): number {
  const answers = findings.map(test).filter((answer) => answer !== null);
  return answers.length === 0 ? 0 : answers.filter(Boolean).length / answers.length;
}

/**
 * Expected calibration error of the judge's confidence on generated pictures, with the detector's agreement as
 * the truth: mean over ten bins of |mean confidence - agreement|, weighted by the bins' sizes (Guo et al., 2017).
 */
export function calibrationError(findings: readonly SceneFinding[], bins = 10): number {
  const judged = findings.filter((one) => one.agreement !== null);
  let error = 0;
  for (let bin = 0; bin < bins; bin++) {
    const inside = judged.filter((one) => Math.min(bins - 1, Math.floor(one.confidence * bins)) === bin);
    if (inside.length === 0) continue;
    const confidence = inside.reduce((sum, one) => sum + one.confidence, 0) / inside.length;
    error += (inside.length / judged.length) * Math.abs(confidence - share(inside, (one) => one.agreement));
  }
  return error;
}
