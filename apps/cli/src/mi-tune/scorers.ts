/** Judges that run in this process: CLIP, and the embedded world's own. */
import { join } from 'node:path';
import { invalid, prose, sha256Json } from '@equipoise/core';
import { clipImageFeatures, clipTextFeatures, type LoadedClip } from '@equipoise/iti-gen';
import { clipScores } from '@equipoise/metrics';
import type { AlignmentScorer } from '@equipoise/mi-tune';
import {
  BackgroundJudge,
  type Judges,
  judgeSuite,
  loadJudges,
  SHIPPED_WEIGHTS,
  type SuitePrompt,
} from '@equipoise/tiny-world';
import { hashFolder } from '@equipoise/weights';
import { packed } from '../showcase/model.js';

/** CLIPScore as the cosine of image and text features. */
export function clipScorer(clip: LoadedClip): AlignmentScorer {
  return {
    name: 'clip',
    hash: clip.hash,
    async score(images, prompts, context) {
      const distinct = [...new Set(prompts)];
      const texts = await clipTextFeatures(clip, distinct);
      const rows = new Float32Array(prompts.length * texts.width);
      for (const [i, prompt] of prompts.entries()) {
        const from = distinct.indexOf(prompt) * texts.width;
        for (let d = 0; d < texts.width; d++) rows[i * texts.width + d] = texts.data[from + d] as number;
      }
      const features = await clipImageFeatures(clip, images, { signal: context?.signal });
      return clipScores(features, { count: prompts.length, width: texts.width, data: rows });
    },
  };
}

/** 1 where a picture shows all its category asks for, else 0: knows only the prompts it is given. */
export async function suiteScorer(
  prompts: readonly SuitePrompt[],
  weights: string = SHIPPED_WEIGHTS,
  judges?: Judges,
): Promise<AlignmentScorer> {
  const { scene } = judges ?? (await loadJudges(weights));
  const background = await BackgroundJudge.create();
  const known = new Map(prompts.map((prompt) => [prompt.text, prompt]));
  return {
    name: 'aligned',
    hash: sha256Json({ judges: await hashFolder(join(weights, 'judges')), version: 1 }),
    async score(images, texts) {
      const wanted = texts.map((text) => {
        const prompt = known.get(text);
        if (prompt === undefined) throw invalid('prompt', 'one of the suite', prose(`"${text}"`));
        return prompt;
      });
      const verdicts = await judgeSuite({ scene, background }, wanted, packed(images));
      return verdicts.map(Number);
    },
  };
}
