// Reads what tap recorded of one workspace. Needs tap-parser, so only after dependencies are installed.
import fs from 'node:fs';
import { Parser } from 'tap-parser';

/**
 * Sums a recorded TAP stream.
 *
 * Passed and failed count assertions, as tap's own totals do. Every test file must appear with at least one
 * assertion, and the workspace must have a test file: what did not run counts as one failure each.
 */
export function readTap(file, testFiles) {
  const sum = { passed: 0, failed: 0, problems: [], skipped: [] };
  const problem = (text) => {
    sum.failed++;
    sum.problems.push(text);
  };
  if (testFiles.length === 0) problem('has no tests');
  else if (!fs.existsSync(file)) problem('its tests left no results');
  else {
    const seen = parse(fs.readFileSync(file), sum, problem);
    for (const name of testFiles) if (!seen.has(name)) problem(`${name} did not run`);
  }
  return sum;
}

function parse(stream, sum, problem) {
  const seen = new Set();
  let failedBefore = 0;
  let file;
  const parser = new Parser();
  // At the top level each assertion is a test file. One whose assertions all hold may still have crashed, run out
  // of time or stopped before its plan: then the file itself is the failure.
  parser.on('assert', (result) => {
    seen.add(result.name);
    file = result;
    if (result.skip === 'no tests found') problem(`${result.name} has no tests`);
    else if (!result.ok && sum.failed === failedBefore) problem(`${result.name}${causeOf(result.diag)}`);
    failedBefore = sum.failed;
  });
  parser.on('pass', () => sum.passed++);
  parser.on('fail', (result) => {
    if (result !== file) problem(result.fullname || result.name);
  });
  parser.on('skip', (result) => {
    if (result.skip === 'no tests found') return;
    sum.skipped.push({
      name: result.fullname || result.name,
      reason: typeof result.skip === 'string' ? result.skip : '',
    });
  });
  parser.on('bailout', (reason) => problem(`bailed out: ${reason}`));
  parser.end(stream);
  return seen;
}

function causeOf(diag) {
  if (diag?.signal) return `: ended by ${diag.signal}`;
  return diag?.exitCode ? `: exit status ${diag.exitCode}` : '';
}
