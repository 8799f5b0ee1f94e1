/** The native device that a test file runs on. */

export const TEST_ENGINES = ['equipoise-cpu', 'equipoise-cuda', 'equipoise-simt'] as const;
export type TestEngine = (typeof TEST_ENGINES)[number];

/**
 * True where kernels run slowly: a thread of a GPU is a fiber on the host, or compute-sanitizer watches
 * (EQUIPOISE_TEST_SMALL=1). Tests leave their largest sizes out.
 */
export const onlySmall = (): boolean =>
  testEngine() === 'equipoise-simt' || process.env.EQUIPOISE_TEST_SMALL === '1';

/** The device under test; where that is the CPU, TensorFlow.js's own engine as well. */
export function enginesUnderTest(): Array<TestEngine | 'cpu'> {
  const engine = testEngine();
  return engine === 'equipoise-cpu' ? [engine, 'cpu'] : [engine];
}

/**
 * `equipoise-cpu`, or what EQUIPOISE_TEST_ENGINE names: the same tests check the CUDA device on a GPU, and its sources
 * on the host (`equipoise-simt`).
 * @throws RangeError for any other name
 */
export function testEngine(): TestEngine {
  const name = process.env.EQUIPOISE_TEST_ENGINE ?? 'equipoise-cpu';
  const engine = TEST_ENGINES.find((known) => known === name);
  if (engine === undefined)
    throw new RangeError(`EQUIPOISE_TEST_ENGINE: expected ${TEST_ENGINES.join(', ')}, got ${name}`);
  return engine;
}
