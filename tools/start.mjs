// `npm start`: installs and builds what is missing, then runs the main job step by step and writes a report to
// runs/start/. A step whose inputs have not changed since it last succeeded is not run again. `--again` runs all.
import { spawnSync } from 'node:child_process';
import crypto from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { builtFiles } from './lib/built-files.mjs';
import { CommandError, installedBin, main, root, setUp } from './lib/setup.mjs';
import { toolchainVersions } from './lib/toolchain.mjs';

const folder = path.join(root, 'runs', 'start');
const cli = path.join(root, 'apps', 'cli', 'bin', 'equipoise.js');

/**
 * The main job. Each step is one `equipoise` command line that prints JSON; `title` and `summary` (JSON -> lines of
 * Markdown) make its part of the report. Add a pipeline here once its command exists; steps run in this order, and
 * each may read what earlier ones left in runs/start/.
 */
const steps = [
  {
    name: 'doctor',
    title: 'This machine',
    args: ['doctor', '--json'],
    summary: ({ machine, addons }) => [
      `${machine.cpu}, ${machine.cores} cores, Node ${machine.node}`,
      '',
      ...addons.map(({ device, problem, description }) =>
        problem === null
          ? `- ${device}: ${describeDevice(description)}`
          : `- ${device}: ${problem.split('\n')[0]}`,
      ),
    ],
  },
  {
    name: 'engine',
    title: 'The engine, beside plain JavaScript',
    args: ['demo', '--json'],
    summary: ({ results }) => [
      '| what | relative error | time | plain JavaScript |',
      '|---|---|---|---|',
      ...results.map(({ name, error, milliseconds, referenceMilliseconds, problem }) =>
        problem === null
          ? `| ${name} | ${error.toExponential(1)} | ${milliseconds.toFixed(2)} ms | ${referenceMilliseconds.toFixed(1)} ms |`
          : `| ${name} | FAILED: ${problem} | | |`,
      ),
    ],
  },
  {
    name: 'showcase',
    title: 'Both pipelines on the embedded model',
    needs: path.join('packages', 'tiny-world', 'weights', 'model_index.json'),
    args: ['showcase', '--out', 'runs/showcase'],
    summary: ({ report, kl, right, rightAmongAll, rightAmongChosen }) => [
      `Pictures, plots and tables: ${report}`,
      '',
      '| ITI-GEN: divergence to uniform, nats | plain prompt | inclusive tokens |',
      '|---|---|---|',
      ...Object.entries(kl).map(
        ([name, { before, after }]) => `| ${name} | ${before.toFixed(3)} | ${after.toFixed(3)} |`,
      ),
      '',
      '| MI-TUNE: held-out prompts | right | 95 % interval |',
      '|---|---|---|',
      ...Object.entries(right).map(
        ([name, { value, low, high }]) =>
          `| ${name} | ${percent(value)} | ${percent(low)} to ${percent(high)} |`,
      ),
      '',
      `Of all candidates ${percent(rightAmongAll)} are right; of those that mutual information chose, ${percent(rightAmongChosen)}.`,
    ],
  },
];

function percent(share) {
  return `${(100 * share).toFixed(1)} %`;
}

function describeDevice({ model, ...details }) {
  const shown = Object.entries(details).filter(([key]) => key !== 'device');
  return `${model} (${shown.map(([key, value]) => `${key} ${value}`).join(', ')})`;
}

/** What a step's result depends on: its own words, everything built, and the machine. */
function fingerprint(step) {
  const hash = crypto.createHash('sha256').update(JSON.stringify([step.args, toolchainVersions()]));
  for (const file of builtFiles(root)) hash.update(file).update(fs.readFileSync(path.join(root, file)));
  return hash.digest('hex');
}

/** Builds the addon and all packages (nothing when unchanged); what the tools say is shown only when they fail. */
function build() {
  console.log('Building (minutes the first time) …');
  const env = { ...process.env, NX_NO_CLOUD: 'true', NX_DAEMON: 'false' };
  const args = [installedBin('nx'), 'run-many', '-t', 'build:native', 'build', '--output-style=static'];
  const result = spawnSync(process.execPath, args, { cwd: root, env, encoding: 'utf8', maxBuffer: 1 << 28 });
  if (result.status === 0) return;
  console.error(`${result.stdout}${result.stderr}`);
  throw new CommandError('the build failed: see above');
}

/** Runs one step, or reads what it left when nothing has changed since; undefined when what it needs is absent. */
function runStep(step, again) {
  if (step.needs && !fs.existsSync(path.join(root, step.needs))) {
    console.log(`${step.title}: not run, ${step.needs} is not in this checkout`);
    return undefined;
  }
  const file = path.join(folder, `${step.name}.json`);
  const key = fingerprint(step);
  if (!again && fs.existsSync(file)) {
    const record = readRecord(file);
    if (record?.fingerprint === key && record.status === 0) {
      console.log(`${step.title}: up to date`);
      return record;
    }
  }
  console.log(`${step.title}: equipoise ${step.args.join(' ')}`);
  const started = new Date();
  const args = ['--enable-source-maps', cli, ...step.args];
  const child = spawnSync(process.execPath, args, {
    cwd: root,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
    maxBuffer: 1 << 28,
  });
  if (child.error) throw new CommandError(`equipoise could not be started: ${child.error.message}`);
  const record = {
    fingerprint: key,
    argv: ['equipoise', ...step.args],
    startedAt: started.toISOString(),
    seconds: (Date.now() - started.getTime()) / 1000,
    status: child.signal ?? child.status,
    result: parseJson(child.stdout),
  };
  // Under its own name only once complete: a killed run leaves no half result.
  fs.writeFileSync(`${file}.partial`, `${JSON.stringify(record, null, 2)}\n`);
  fs.renameSync(`${file}.partial`, file);
  return record;
}

function readRecord(file) {
  return parseJson(fs.readFileSync(file, 'utf8'));
}

function parseJson(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function section(step, record) {
  if (!record) return [`## ${step.title}`, '', `Not run: ${step.needs} is not in this checkout.`, ''];
  const { result, status, startedAt, seconds } = record;
  const body =
    result === undefined
      ? [`No result: \`equipoise ${step.args.join(' ')}\` ended with status ${status}.`]
      : step.summary(result);
  return [
    `## ${step.title}`,
    '',
    ...body,
    '',
    `\`equipoise ${step.args.join(' ')}\`, ${startedAt}, ${seconds.toFixed(1)} s, status ${status}.`,
    '',
  ];
}

await main(() => {
  const again = process.argv.includes('--again');
  const unknown = process.argv.slice(2).find((word) => word !== '--again');
  if (unknown) throw new CommandError(`start: expected --again or nothing, got ${unknown}`);
  setUp();
  build();
  fs.mkdirSync(folder, { recursive: true });
  const records = steps.map((step) => runStep(step, again));
  const lines = ['# Equipoise', '', ...steps.flatMap((step, i) => section(step, records[i]))];
  const report = path.join(folder, 'report.md');
  fs.writeFileSync(report, lines.join('\n'));
  console.log(`\n${lines.join('\n')}\nReport: ${path.relative(process.cwd(), report)}`);
  const failed = steps.filter((_, i) => records[i] && records[i].status !== 0);
  if (failed.length > 0) throw new CommandError(`failed: ${failed.map((step) => step.name).join(', ')}`);
  return 0;
});
