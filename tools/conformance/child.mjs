// Runs TensorFlow.js's own op specs against one backend and journals what happens. Started by run.mjs, which blames a
// spec when this process dies in it and starts another for the rest.
//
// The specs use the ESM copy of tfjs-core, the backend the CommonJS one; both share the engine and the kernel registry,
// which live on globalThis. Lookups in the registry are watched: they tell which kernels a spec asked for, whether they
// exist, and whose they are.
import fs from 'node:fs';
import module from 'node:module';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { select } from './judge.mjs';

const ENVIRONMENT = 'equipoise';
const config = JSON.parse(fs.readFileSync(process.argv[2], 'utf8'));
const journalFd = fs.openSync(config.journal, 'a');
const journal = (entry) => fs.writeSync(journalFd, `${JSON.stringify(entry)}\n`);

const here = module.createRequire(import.meta.url);
const coreRoot = path.dirname(here.resolve('@tensorflow/tfjs-core/package.json'));
const dist = pathToFileURL(path.join(fs.realpathSync(coreRoot), 'dist') + path.sep).href;
const moduleOf = (name) => import(`${dist}${name}.js`);

/** What one spec, or the set-up of one suite, asked the kernel registry for. */
const newTrace = () => ({ kernels: new Set(), missing: new Set(), foreign: new Set() });
let trace = newTrace();

/** Books every lookup of a kernel in `trace`. */
function watchRegistry(registry, known) {
  const own = `${config.backend}_`;
  // The engine asks for these to see whether a fast path exists; no is an answer.
  const optional = new Set(['FromPixels', 'Draw']);
  const initial = new Map();
  registry.get = (key) => {
    const entry = Map.prototype.get.call(registry, key);
    const [backend, kernel] = [key.slice(0, key.indexOf('_')), key.slice(key.indexOf('_') + 1)];
    if (key.startsWith(own)) {
      const name = key.slice(own.length);
      if (entry !== undefined && initial.get(key) === entry.kernelFunc) trace.kernels.add(name);
      else if (entry === undefined && known.has(name) && !optional.has(name)) trace.missing.add(name);
    } else if (
      entry !== undefined &&
      initial.get(key) === entry.kernelFunc &&
      config.siblings.includes(backend) === false
    ) {
      trace.foreign.add(`${backend}:${kernel}`);
    }
    return entry;
  };
  return () => {
    for (const [key, { kernelFunc }] of registry) initial.set(key, kernelFunc);
  };
}

/** Kernels of the backend that are the very function of another one. */
function borrowed(registry) {
  const owner = new Map();
  for (const [key, { kernelFunc }] of registry) {
    const backend = key.slice(0, key.indexOf('_'));
    if (backend !== config.backend && !config.siblings.includes(backend)) owner.set(kernelFunc, key);
  }
  const own = `${config.backend}_`;
  return [...registry]
    .filter(([key, { kernelFunc }]) => key.startsWith(own) && owner.has(kernelFunc))
    .map(([key]) => key.slice(own.length));
}

/** Makes the backend current and sees that it stores and returns numbers. */
async function checkBackend(tf, engine) {
  if (!(config.backend in engine.registryFactory))
    throw new Error(
      `${config.module} does not register a backend '${config.backend}' (it has ${Object.keys(engine.registryFactory).join(', ')})`,
    );
  if (!(await tf.setBackend(config.backend)) || tf.getBackend() !== config.backend)
    throw new Error(`the backend '${config.backend}' cannot be initialised`);
  const sent = Float32Array.of(1.5, -2, 0, 3e7);
  const tensor = tf.tensor(sent, [2, 2]);
  const received = await tensor.data();
  tensor.dispose();
  if (received.length !== 4 || sent.some((value, i) => value !== received[i]))
    throw new Error(`the backend '${config.backend}' returns ${received} for ${sent}`);
  // Below 32 the suite compares with a tolerance of 0.1.
  if (engine.backendInstance.floatPrecision() !== 32)
    throw new Error(`floatPrecision() is ${engine.backendInstance.floatPrecision()}, expected 32`);
}

/** Imports the spec files in the suite's own order; gives each top suite's file. */
async function loadSpecs(top) {
  const listed = [
    ...fs.readFileSync(fileURLToPath(`${dist}tests.js`), 'utf8').matchAll(/^import '\.\/(.+?)';/gm),
  ].map((match) => match[1]);
  const files = new Map();
  let seen = 0;
  for (const file of listed) {
    await moduleOf(file);
    for (; seen < top.children.length; seen++) files.set(top.children[seen], file.replace(/_test$/, ''));
  }
  return { listed: listed.map((file) => file.replace(/_test$/, '')), files };
}

/** All specs by jasmine's id. A name that occurs again gets a number, so that keys are unique. */
function collectSpecs(files) {
  const specs = new Map();
  const times = new Map();
  const visit = (node, file) => {
    for (const child of node.children ?? []) {
      if (child.children) {
        visit(child, file);
        continue;
      }
      const name = child.getFullName().replace(` ${ENVIRONMENT} {}`, '');
      const key = `${file}: ${name}`;
      const count = (times.get(key) ?? 0) + 1;
      times.set(key, count);
      specs.set(child.id, { key: count > 1 ? `${key} #${count}` : key, file, name });
    }
  };
  for (const [suite, file] of files) visit({ children: [suite] }, file);
  return specs;
}

function reporter(specs, run) {
  const suites = [];
  const failuresOf = (result) =>
    result.failedExpectations.map(({ message }) => String(message).slice(0, 1500));
  return {
    suiteStarted() {
      trace = newTrace();
      suites.push(trace);
    },
    specStarted({ id }) {
      trace = newTrace();
      if (run.has(specs.get(id)?.key)) journal({ type: 'start', key: specs.get(id).key });
    },
    specDone(result) {
      const { key } = specs.get(result.id) ?? {};
      if (run.has(key)) {
        const missing = new Set([trace, ...suites].flatMap((t) => [...t.missing]));
        journal({
          type: 'spec',
          key,
          status: result.status,
          kernels: [...trace.kernels],
          missing: [...missing],
          foreign: [...trace.foreign],
          failures: failuresOf(result),
        });
      }
      trace = suites.at(-1) ?? newTrace();
    },
    suiteDone(result) {
      const own = suites.pop();
      if (result.failedExpectations.length)
        journal({
          type: 'suite-failure',
          name: result.fullName,
          missing: [...own.missing],
          failures: failuresOf(result),
        });
      trace = suites.at(-1) ?? newTrace();
    },
    jasmineDone(result) {
      if (result.failedExpectations?.length)
        journal({ type: 'suite-failure', name: '(all)', missing: [], failures: failuresOf(result) });
      journal({
        type: 'end',
        incomplete: result.overallStatus === 'incomplete' ? result.incompleteReason : undefined,
      });
    },
  };
}

async function main() {
  module.register('./loader.mjs', import.meta.url, { data: { dist } });
  const api = here('jasmine-core').noGlobals();
  Object.assign(globalThis, api);
  const { jasmine } = api;
  jasmine.DEFAULT_TIMEOUT_INTERVAL = 20_000;
  const tf = await moduleOf('index');
  await moduleOf('public/chained_ops/register_all_chained_ops');
  await moduleOf('register_all_gradients');
  const kernelNames = Object.values(await moduleOf('kernel_names')).filter(
    (name) => typeof name === 'string',
  );
  const engine = globalThis._tfengine;
  const registry = globalThis._tfGlobals.get('kernelRegistry');
  const freeze = watchRegistry(registry, new Set(kernelNames));

  await import(pathToFileURL(config.module).href);
  await checkBackend(tf, engine);
  freeze();
  const own = `${config.backend}_`;
  const kernels = [...registry.keys()]
    .filter((key) => key.startsWith(own))
    .map((key) => key.slice(own.length));
  engine.reset();

  const env = jasmine.getEnv();
  const { setTestEnvs } = await moduleOf('jasmine_util');
  setTestEnvs([{ name: ENVIRONMENT, backendName: config.backend, flags: {}, isDataSync: true }]);
  const { listed, files } = await loadSpecs(env.topSuite());
  const specs = collectSpecs(files);
  const version = JSON.parse(fs.readFileSync(path.join(coreRoot, 'package.json'), 'utf8')).version;
  journal({
    type: 'found',
    version,
    listed,
    specs: [...specs.values()],
    kernels,
    borrowed: borrowed(registry),
  });

  const { selected } = select([...specs.values()], config.suite, config);
  const run = new Set(selected.map(({ key }) => key).filter((key) => !config.done.includes(key)));
  env.clearReporters();
  env.configure({
    random: false,
    failSpecWithNoExpectations: false,
    specFilter: ({ id }) => run.has(specs.get(id)?.key),
  });
  env.addReporter(reporter(specs, run));
  await env.execute();
}

try {
  await main();
  // The backend's threads must not keep the process alive.
  process.exit(0);
} catch (error) {
  journal({ type: 'setup-error', message: String(error?.stack ?? error) });
  process.exit(1);
}
