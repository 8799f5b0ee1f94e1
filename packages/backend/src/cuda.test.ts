/** The CUDA kernels on a GPU: the tests of the kernels, skipped by name where none answers. */
import { cudaProblem } from './engine.js';
import { runOnDevice } from './testing/device-tests.js';

await runOnDevice('equipoise-cuda', cudaProblem()?.split('\n')[0]);
