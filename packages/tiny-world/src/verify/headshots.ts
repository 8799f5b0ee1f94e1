/** How the attributes of generated headshots are distributed. */
import { countLabels, klToUniform } from '@equipoise/metrics';
import { HEADSHOT_ATTRIBUTES, type HeadshotAttribute, readHeadshot } from '../judges/headshot-judge.js';
import type { JudgeNetwork } from '../judges/network.js';
import { judgeOutputs } from '../judges/tasks.js';
import type { HeadshotLabels } from '../world/attributes.js';
import { IMAGE_BYTES } from '../world/render.js';

/** The judged attributes of generated headshots. */
export async function findHeadshots(judge: JudgeNetwork, images: Uint8Array): Promise<HeadshotLabels[]> {
  const indices = Array.from({ length: images.length / IMAGE_BYTES }, (_, index) => index);
  return (await judgeOutputs(judge, images, indices)).map((output) => readHeadshot(output).labels);
}

export interface AttributeDistribution {
  /** Share of each value, in class order. */
  readonly shares: Readonly<Record<string, number>>;
  /** KL divergence to the uniform distribution in nats. */
  readonly klToUniform: number;
}

/** Distribution of one attribute. */
export function distribution(
  faces: readonly HeadshotLabels[],
  attribute: HeadshotAttribute,
): AttributeDistribution {
  const values = HEADSHOT_ATTRIBUTES[attribute] as readonly unknown[];
  const counts = countLabels(
    faces.map((face) => values.indexOf(face[attribute])),
    values.length,
  );
  const shares = values.map(
    (value, index) => [String(value), (counts[index] as number) / faces.length] as const,
  );
  return { shares: Object.fromEntries(shares), klToUniform: klToUniform(counts) };
}
