/**
 * The CUDA addon's own device, allocator, staging, faults, graphs and measured choices, from JavaScript, without a GPU: on
 * a strict model of the CUDA runtime (native/simt/cudart), with kernels carried out by the SIMT shim and stand-ins for
 * the libraries. Memory is reused here as on a GPU, which the shim's own device does not do.
 */
import fs from 'node:fs';
import path from 'node:path';
import { addonCandidates } from '@equipoise/native';
import t from 'tap';
import { runOnDevice } from './testing/device-tests.js';

const shim = addonCandidates('simt').find((file) => fs.existsSync(file));
if (shim === undefined) throw new Error('equipoise_simt.node was not built: run "npm run build:native"');
const folder = path.dirname(shim);
const env = {
  EQUIPOISE_NATIVE_DIR: path.join(folder, 'modelled'),
  EQUIPOISE_TEST_SMALL: '1',
  XDG_CACHE_HOME: t.testdir(),
  EQUIPOISE_CUBLASLT: path.join(folder, 'simt_cublaslt.so'),
  EQUIPOISE_CUDNN: path.join(folder, 'simt_cudnn.so'),
};
await runOnDevice('equipoise-cuda', undefined, {
  label: 'on a model of a GPU',
  files: /recording|frozen-weights|casts|libraries|fused\/fused/,
  env,
});
// A GPU with less shared memory for a block than those that the kernels are tuned for.
await runOnDevice('equipoise-cuda', undefined, {
  label: 'on a model of capability 8.6',
  files: /kernels\/attention/,
  env: { ...env, EQUIPOISE_SIMT_CAPABILITY: '86' },
});
