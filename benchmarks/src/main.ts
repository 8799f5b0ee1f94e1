/**
 * `npm run bench -- --suite SUITE --json FILE`: times kernels, op dispatch, or whole jobs on the embedded model, beside
 * peers and ceilings in interleaved rounds. Benchmarks are never cached and never part of the tests.
 */
import { currentDevice } from '@equipoise/backend';
import { defineOptions, invalid, type JobContext, type OptionsOf, option, z } from '@equipoise/core';
import { parseCase } from './kernels/families.js';
import { PeerPool, usePeers } from './measure/peer.js';
import { median } from './measure/statistics.js';
import { benchmarkProgram, type Findings, jsonOption, pythonOption, roundOptions } from './program.js';
import type { CaseRecord } from './record.js';
import { runDispatchSuite } from './suites/dispatch.js';
import { runKernelSuite, summarise } from './suites/kernels.js';
import { runThroughputSuite } from './suites/throughput.js';

const options = defineOptions(
  'bench',
  {
    suite: option(
      z.enum(['kernels', 'dispatch', 'throughput']).default('kernels'),
      'What to time: kernels (and dispatch), dispatch alone, or images, pairs and updates per second.',
    ),
    json: jsonOption,
    filter: option(z.string().default(''), 'Only cases whose name contains this text.'),
    case: option(
      z.array(z.string()).default([]),
      'A kernel at sizes of your own, as linear:m=4096,k=320,n=320; repeat it for several.',
      { whole: true },
    ),
    precision: option(z.enum(['f32', 'bf16', 'both']).default('both'), 'Storage precision.'),
    ...roundOptions(9, 0.05),
    python: pythonOption,
  },
  ({ suite, case: cases, filter }, name) => {
    if (cases.length > 0 && (suite !== 'kernels' || filter !== ''))
      throw invalid(name('case'), 'neither --filter nor another suite than kernels', cases.join(' '));
    if (suite === 'dispatch' && filter !== '')
      throw invalid(name('filter'), 'nothing for the dispatch suite', filter);
  },
);
type BenchOptions = OptionsOf<typeof options>;

function dispatchSummary(cases: readonly CaseRecord[]): Record<string, number> {
  return Object.fromEntries(
    cases.map(({ id, seconds }) => [`${id}: microseconds per op`, 1e6 * median(seconds)]),
  );
}

async function kernels(settings: BenchOptions, context: JobContext): Promise<Findings> {
  const chosen = settings.case.map(parseCase);
  const peers = usePeers(settings.python);
  const pool = peers.python === undefined ? undefined : new PeerPool(peers.python);
  try {
    const dispatch =
      settings.filter === '' && chosen.length === 0 ? await runDispatchSuite(settings.rounds, context) : [];
    const threads = Number(currentDevice()?.native.describe().threads ?? 1);
    const suite = { ...suiteOptions(settings), chosen, peerThreads: [...new Set([1, threads])] };
    const { cases, failures } = await runKernelSuite(suite, pool, context);
    requireCases(settings, [...cases, ...Object.keys(failures)]);
    const summary = { ...summarise(cases), ...dispatchSummary(dispatch) };
    const { versions: peerVersions, problem: peerProblem } = peers;
    return { suite: 'kernels', cases: [...cases, ...dispatch], failures, summary, peerVersions, peerProblem };
  } finally {
    pool?.close();
  }
}

function suiteOptions({ filter, rounds, seconds, precision }: BenchOptions) {
  const precisions = precision === 'both' ? (['f32', 'bf16'] as const) : [precision];
  return { filter, rounds, budget: seconds, precisions };
}

function requireCases({ filter, precision }: BenchOptions, found: readonly unknown[]): void {
  if (found.length === 0)
    throw invalid('--filter', `text that a case of precision ${precision} contains`, filter);
}

async function run(settings: BenchOptions, context: JobContext): Promise<Findings> {
  if (settings.suite === 'kernels') return kernels(settings, context);
  if (settings.suite === 'dispatch') {
    const cases = await runDispatchSuite(settings.rounds, context);
    return { suite: 'dispatch', cases, summary: dispatchSummary(cases) };
  }
  const findings = await runThroughputSuite(suiteOptions(settings), context);
  requireCases(settings, [...findings.cases, ...Object.keys(findings.failures)]);
  return { suite: 'throughput', ...findings };
}

await benchmarkProgram(options, run);
