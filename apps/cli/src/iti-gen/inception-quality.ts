/** FID and KID: distances in Inception's features to a folder of real images. */
import { invalid, type JobContext, ProgressCounter, prose, throwIfCancelled } from '@equipoise/core';
import { imagesUnder, type QualityMeasure, qualityReference } from '@equipoise/iti-gen';
import type { Rows } from '@equipoise/metrics';
import { decodeImage, INCEPTION_FEATURES, InceptionV3, type RgbImage } from '@equipoise/models';
import { openSafetensors } from '@equipoise/weights';

const BATCH = 8;

/**
 * @param weights safetensors with pytorch-fid's names; docs/iti-gen.md says how to make one
 * @param realImages folder, read with everything below it
 */
export async function openInceptionQuality(
  weights: string,
  realImages: string,
  context: JobContext,
): Promise<QualityMeasure> {
  const file = await openSafetensors(weights);
  const model = await InceptionV3.load(file).finally(() => file.close());
  const real = await imagesUnder(realImages);
  if (real.length < 2) throw invalid(realImages, 'at least two images', prose(String(real.length)));
  return {
    name: 'Inception',
    features: (images) => featuresOf(model, images.length, async (i) => images[i] as RgbImage, context),
    references: {
      [`${real.length} real images`]: qualityReference(
        await featuresOf(model, real.length, (i) => decodeImage(real[i] as string), context),
      ),
    },
  };
}

async function featuresOf(
  model: InceptionV3,
  count: number,
  image: (index: number) => Promise<RgbImage>,
  context: JobContext,
): Promise<Rows> {
  const data = new Float32Array(count * INCEPTION_FEATURES);
  const progress = new ProgressCounter('Inception features', context, { total: count, unit: 'image' });
  for (let start = 0; start < count; start += BATCH) {
    throwIfCancelled(context.signal, 'Inception features');
    const size = Math.min(BATCH, count - start);
    const images = await Promise.all(Array.from({ length: size }, (_, i) => image(start + i)));
    const features = model.features(images);
    data.set(await features.data<'float32'>(), start * INCEPTION_FEATURES);
    features.dispose();
    progress.advance(size);
  }
  return { count, width: INCEPTION_FEATURES, data };
}
