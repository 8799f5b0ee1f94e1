// What a conformance run proves: which specs are selected, what became of each, and every reason not to believe it.
// Pure functions of what the child processes journalled.

export const SCOPES = { must: ['must'], nice: ['must', 'nice'], all: ['must', 'nice', 'rest'] };

/** The key of a spec in the journal and of an entry in the skip list. */
const keyOf = ({ file, spec }) => `${file}: ${spec}`;

/**
 * The specs a run selects, and those it leaves out because the skip list says so.
 * @param {{key: string, file: string, name: string}[]} specs
 * @param suite suite.json
 * @param {{scope: string, grep?: string, skips: {file: string, spec: string, reason: string}[]}} options
 */
export function select(specs, suite, { scope, grep, skips }) {
  const files = new Set(SCOPES[scope].flatMap((group) => Object.keys(suite.specs[group])));
  // A file that suite.json does not know belongs to no scope but `all`.
  const known = new Set(Object.values(suite.specs).flatMap((group) => Object.keys(group)));
  const pattern = grep ? new RegExp(grep) : /(?:)/;
  const wanted = specs.filter(
    ({ file, name }) => (files.has(file) || (scope === 'all' && !known.has(file))) && pattern.test(name),
  );
  const reasons = new Map(skips.map((skip) => [keyOf(skip), skip.reason]));
  return {
    selected: wanted.filter(({ key }) => !reasons.has(key)),
    skipped: wanted
      .filter(({ key }) => reasons.has(key))
      .map((spec) => ({ ...spec, reason: reasons.get(spec.key) })),
  };
}

/** What became of one spec: passed, failed or missing (it asked for a kernel that is not registered). */
function outcome(result) {
  if (!result) return { status: 'failed', message: 'never reported, though it was selected' };
  if (result.status === 'crashed' || result.status === 'hung')
    return { status: 'failed', message: result.failures[0] };
  if (result.missing.length > 0) return { status: 'missing', message: `needs ${result.missing.join(', ')}` };
  if (result.foreign.length > 0)
    return { status: 'failed', message: `served by another backend: ${result.foreign.join(', ')}` };
  if (result.status === 'passed') return { status: 'passed' };
  if (result.status === 'pending')
    return { status: 'failed', message: 'disabled in the suite, but not in the skip list' };
  return { status: 'failed', message: result.failures[0] ?? `reported as ${result.status}` };
}

/** Reasons not to believe the run, whatever its specs say. */
function doubts(run, suite, options, selected, proven) {
  const { found, suiteFailures, ended, gaveUp } = run;
  const problems = [];
  if (gaveUp) problems.push(gaveUp);
  if (!ended) problems.push('the suite did not come to its end');
  else if (ended.incomplete && !/focused|filter/i.test(ended.incomplete))
    problems.push(`the suite is incomplete: ${ended.incomplete}`);
  for (const { name, failures } of suiteFailures) problems.push(`${name}: ${failures[0]}`);
  if (found.version !== suite.tfjsCore)
    problems.push(`tfjs-core is ${found.version}, the known suite is that of ${suite.tfjsCore}`);

  const perFile = Map.groupBy
    ? Map.groupBy(found.specs, ({ file }) => file)
    : found.specs.reduce((map, spec) => map.set(spec.file, [...(map.get(spec.file) ?? []), spec]), new Map());
  for (const group of Object.values(suite.specs)) {
    for (const [file, count] of Object.entries(group)) {
      const actual = perFile.get(file)?.length ?? 0;
      if (actual < count) problems.push(`${file}: ${actual} specs found, at least ${count} expected`);
    }
  }
  const keys = new Set(found.specs.map(({ key }) => key));
  for (const skip of options.skips) {
    if (!skip.reason) problems.push(`the skip list gives no reason for '${keyOf(skip)}'`);
    if (!keys.has(keyOf(skip)))
      problems.push(`the skip list names '${keyOf(skip)}', which no spec is called`);
  }
  const required =
    options.scope === 'must' ? suite.kernels.must : [...suite.kernels.must, ...suite.kernels.nice];
  const absent = required.filter((kernel) => !found.kernels.includes(kernel));
  if (absent.length > 0) problems.push(`not registered: ${absent.join(', ')}`);
  const borrowed = required.filter((kernel) => found.borrowed.includes(kernel));
  if (borrowed.length > 0) problems.push(`functions of another backend: ${borrowed.join(', ')}`);
  if (selected.length === 0) problems.push('no spec was selected');
  else if (proven === 0) problems.push('not one passed spec ran a kernel of the backend');
  return problems;
}

/**
 * @param run what run.mjs collected: found, results by key, suiteFailures, ended, gaveUp
 * @returns counts, the outcome of each selected spec, and the problems of the run itself
 */
export function judge(run, suite, options) {
  const { selected, skipped } = select(run.found.specs, suite, options);
  const specs = selected.map((spec) => ({
    ...spec,
    ...outcome(run.results.get(spec.key)),
    kernels: run.results.get(spec.key)?.kernels ?? [],
  }));
  const count = (status) => specs.filter((spec) => spec.status === status).length;
  const proven = specs.filter((spec) => spec.status === 'passed' && spec.kernels.length > 0).length;
  const problems = doubts(run, suite, options, selected, proven);
  return {
    counts: {
      passed: count('passed'),
      failed: count('failed'),
      missing: count('missing'),
      skipped: skipped.length,
      total: selected.length + skipped.length,
      proven,
    },
    specs,
    skipped,
    problems,
  };
}
