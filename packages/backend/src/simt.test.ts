/**
 * The CUDA kernels without a GPU: their sources, compiled for the host (native/simt), pass the tests of the kernels.
 * Accesses outside a tensor, values that nobody wrote, barriers that not everybody reaches, and copies and products that
 * nobody waits for are failures.
 */
import { runOnDevice } from './testing/device-tests.js';

await runOnDevice('equipoise-simt');
