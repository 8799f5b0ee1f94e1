/**
 * The CUDA kernels for sm_90 without a GPU, as simt.test.ts: norms spread over clusters, products and convolutions by
 * wgmma in the smallest and the largest of its tiles. The kernel's own check, which comes first, takes all of them.
 */
import { runOnDevice } from './testing/device-tests.js';

const sm90 = { EQUIPOISE_SIMT_CAPABILITY: '90' };
await runOnDevice('equipoise-simt', undefined, { label: 'clusters', files: /storages/, env: sm90 });
for (const way of ['wgmma 128x128', 'wgmma 256x160'])
  await runOnDevice('equipoise-simt', undefined, {
    label: way,
    files: /half-products/,
    env: { ...sm90, EQUIPOISE_CUDA_WGMMA: '1', EQUIPOISE_CUDA_TUNE: way },
  });
