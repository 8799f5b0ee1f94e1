// `npm run fuzz`: builds the addon with AddressSanitizer and UndefinedBehaviorSanitizer and throws seeded calls at all
// of its surface, or damaged safetensors files at the reader and the addon behind it. What crashes or hangs is named by
// seed and index, and the run goes on behind it.
// Options: --target addon|safetensors (addon), --calls N (200000), --seed S (1), --from I (0).
// Reproduce one call: --seed S --from I --calls 1.
import { spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { CommandError, main, root, runOrThrow, setUp } from './lib/setup.mjs';
import { findToolchain } from './lib/toolchain.mjs';

const HANG_MS = 120_000;
const MOST_CRASHES = 20;
const folder = path.join(root, 'runs', 'fuzz');
/** Both take SEED FROM COUNT PROGRESS_FILE and print a JSON summary, or SEED INDEX 0 describe. */
const programs = {
  addon: path.join(root, 'packages', 'native', 'src', 'fuzz', 'main.ts'),
  safetensors: path.join(root, 'tools', 'fuzz-safetensors.ts'),
};

function parseOptions() {
  const number = (name, text) => {
    const value = Number(text);
    if (!Number.isSafeInteger(value) || value < 0) {
      throw new CommandError(`fuzz: --${name}: expected a whole number of at least 0, got ${text}`);
    }
    return value;
  };
  let values;
  try {
    const text = (fallback) => ({ type: 'string', default: fallback });
    const options = { target: text('addon'), calls: text('200000'), seed: text('1'), from: text('0') };
    ({ values } = parseArgs({ options }));
  } catch (error) {
    throw new CommandError(`fuzz: ${error.message}`);
  }
  const { target, ...numbers } = values;
  if (!Object.hasOwn(programs, target)) {
    const known = Object.keys(programs).join(' or ');
    throw new CommandError(`fuzz: --target: expected ${known}, got "${target}"`);
  }
  const entries = Object.entries(numbers).map(([name, value]) => [name, number(name, value)]);
  return { target, ...Object.fromEntries(entries) };
}

/** The sanitizers must be in the process before anything else allocates, and Node is not linked with them. */
function sanitizerEnvironment() {
  const { compiler } = findToolchain();
  const libraries = ['libasan.so', 'libubsan.so'].map((name) => {
    const result = spawnSync(compiler, [`-print-file-name=${name}`], { encoding: 'utf8' });
    const file = result.stdout.trim();
    if (!path.isAbsolute(file))
      throw new CommandError(`fuzz: ${compiler} has no ${name}: install its sanitizer libraries`);
    return fs.realpathSync(file);
  });
  return {
    ...process.env,
    EQUIPOISE_NATIVE_DIR: path.join(root, 'packages', 'native', 'build-sanitize', 'bin'),
    LD_PRELOAD: libraries.join(' '),
    // Node frees little at its end, so leaks of the process say nothing; leaks of the device are counted by the fuzzer.
    ASAN_OPTIONS: 'detect_leaks=0:allocator_may_return_null=1:abort_on_error=1:strict_string_checks=1',
    // What the build does not let recover ends the process all the same.
    UBSAN_OPTIONS: 'print_stacktrace=0:halt_on_error=0',
  };
}

function nodeArguments(target, ...args) {
  return [
    '--import=tsx',
    '--conditions=equipoise-source',
    '--expose-gc',
    programs[target],
    ...args.map(String),
  ];
}

/** Runs one process until it ends, crashes or hangs. */
async function runProcess({ target, seed }, from, calls, env) {
  const progressFile = path.join(folder, 'progress.bin');
  fs.rmSync(progressFile, { force: true });
  const child = spawn(process.execPath, nodeArguments(target, seed, from, calls, progressFile), {
    cwd: root,
    env,
  });
  let out = '';
  let err = '';
  child.stdout.on('data', (chunk) => (out += chunk));
  child.stderr.on('data', (chunk) => (err = (err + chunk).slice(-200_000)));
  let last = -1;
  let since = Date.now();
  let hung = false;
  const watch = setInterval(() => {
    const index = readProgress(progressFile);
    if (index !== last) {
      last = index;
      since = Date.now();
      if (process.stderr.isTTY) process.stderr.write(`\r${index - from} of ${calls} calls `);
    } else if (Date.now() - since > HANG_MS) {
      hung = true;
      child.kill('SIGKILL');
    }
  }, 1000);
  const [status, signal] = await new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (...ending) => resolve(ending));
  });
  clearInterval(watch);
  if (process.stderr.isTTY) process.stderr.write('\r\u001b[K');
  return { status, signal, hung, index: readProgress(progressFile), out, err };
}

function readProgress(file) {
  try {
    const bytes = fs.readFileSync(file);
    return bytes.length === 8 ? bytes.readDoubleLE() : -1;
  } catch {
    return -1;
  }
}

/** The call in words; a process of its own, since making the arguments may be what crashes. */
function describe({ target, seed }, index, env) {
  const result = spawnSync(process.execPath, nodeArguments(target, seed, index, 0, 'describe'), {
    cwd: root,
    env,
    encoding: 'utf8',
  });
  return result.status === 0 ? result.stdout.trim() : 'a call that cannot be described';
}

function reportCrash({ status, signal, hung, index, err }, options, env) {
  const { target, seed } = options;
  const log = path.join(folder, `crash-${target}-${seed}-${index}.log`);
  fs.writeFileSync(log, err);
  const how = hung ? `hung for ${HANG_MS / 1000} s` : `ended by ${signal ?? `exit status ${status}`}`;
  const cause = /(ERROR: AddressSanitizer|runtime error|FATAL ERROR|Error\]?): [^\n]*/.exec(err)?.[0] ?? '';
  console.log(`CRASH ${describe(options, index, env)}`);
  console.log(`  ${how} ${cause}`);
  console.log(
    `  npm run fuzz -- --target ${target} --seed ${seed} --from ${index} --calls 1   (${path.relative(root, log)})`,
  );
}

/** Places where undefined behaviour was reported and the process went on, each once. */
function reportedPlaces(err) {
  const lines = [...err.matchAll(/([^\s:]+):(\d+):\d+: runtime error: ([^\n]*)/g)];
  return lines.map(
    ([, file, line, text]) =>
      `${file.replace(/^.*\/native\//, 'native/')}:${line}: ${text.replace(/-?\d+/g, '#')}`,
  );
}

function merge(total, part, err) {
  for (const place of reportedPlaces(err)) total.places.add(place);
  total.calls += part.calls;
  total.problems.push(...part.problems);
  total.missing = part.missing;
  total.leaked += part.leaked;
  for (const [name, counts] of Object.entries(part.functions)) {
    total.functions[name] ??= { accepted: 0, refused: 0, faults: 0 };
    for (const key of Object.keys(counts)) total.functions[name][key] += counts[key];
  }
}

function printSummary({ target }, total, crashes, calls) {
  const sum = (key) => Object.values(total.functions).reduce((n, counts) => n + counts[key], 0);
  for (const { index, name, mode, problem } of total.problems.slice(0, 50)) {
    console.log(`PROBLEM ${name} [${mode}], call ${index}: ${problem.slice(0, 300)}`);
  }
  for (const name of [...total.missing, ...total.places]) console.log(`PROBLEM ${name}`);
  if (total.leaked > 0) console.log(`PROBLEM ${total.leaked} blocks of device memory were not given back`);
  const functions = Object.entries(total.functions);
  if (target === 'safetensors') {
    for (const [name, { accepted, refused }] of functions.sort())
      console.log(`${name}: ${accepted} accepted, ${refused} refused`);
  } else {
    const outcomes = `${sum('accepted')} calls accepted, ${sum('refused')} refused, ${sum('faults')} faults`;
    console.log(`${functions.length} functions: ${outcomes}`);
  }
  const problems =
    total.problems.length + total.missing.length + total.places.size + (total.leaked > 0 ? 1 : 0);
  console.log(`fuzz: ${calls} calls, ${crashes} crashes, ${problems} problems`);
  return crashes + problems === 0 ? 0 : 1;
}

await main(async () => {
  const options = parseOptions();
  const { calls, from } = options;
  setUp();
  runOrThrow(process.execPath, [path.join(root, 'tools', 'build-native.mjs'), '--sanitize']);
  fs.mkdirSync(folder, { recursive: true });
  const env = sanitizerEnvironment();
  const total = { calls: 0, functions: {}, problems: [], missing: [], leaked: 0, places: new Set() };
  let next = from;
  let crashes = 0;
  while (next < from + calls && crashes < MOST_CRASHES) {
    const ending = await runProcess(options, next, from + calls - next, env);
    if (ending.status === 0) {
      merge(total, JSON.parse(ending.out), ending.err);
      next = from + calls;
      continue;
    }
    if (ending.index < 0) throw new CommandError(`fuzz: the process did not start:\n${ending.err}`);
    crashes++;
    for (const place of reportedPlaces(ending.err)) total.places.add(place);
    reportCrash(ending, options, env);
    next = ending.index + 1;
  }
  return printSummary(options, total, crashes, next - from);
});
