// Builds the native addons with cmake-js. Usage: node tools/build-native.mjs [--sanitize] [--debug] [--werror]
// A missing compiler or CMake is told in one sentence that says what to install.
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { findToolchain, ToolchainError } from './lib/toolchain.mjs';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const project = path.join(root, 'packages', 'native');
const flags = new Set(process.argv.slice(2));
const known = ['--sanitize', '--debug', '--werror'];
for (const flag of flags) {
  if (!known.includes(flag)) fail(`build-native: unknown option ${flag}; expected ${known.join(', ')}.`);
}

function fail(message) {
  console.error(message);
  process.exit(1);
}

let generator;
try {
  generator = findToolchain().generator;
} catch (error) {
  if (!(error instanceof ToolchainError)) throw error;
  fail(error.message);
}

/** Two builds in one folder would spoil each other; the second waits. */
async function locked(file, work) {
  for (;;) {
    try {
      fs.writeFileSync(file, String(process.pid), { flag: 'wx' });
      break;
    } catch (error) {
      if (error.code !== 'EEXIST') throw error;
      const pid = Number(fs.readFileSync(file, 'utf8').trim() || '0');
      if (pid && !alive(pid)) fs.rmSync(file, { force: true });
      else await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }
  try {
    return work();
  } finally {
    fs.rmSync(file, { force: true });
  }
}

function alive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

const out = path.join(project, flags.has('--sanitize') ? 'build-sanitize' : 'build');
fs.mkdirSync(out, { recursive: true });
const cmakeJs = createRequire(path.join(project, 'package.json')).resolve('cmake-js/bin/cmake-js');
const args = [cmakeJs, 'compile', '-d', project, '-O', out, '-G', generator, '-l', 'error'];
args.push(
  `--CDEQ_SANITIZE=${flags.has('--sanitize') ? 'ON' : 'OFF'}`,
  `--CDEQ_WERROR=${flags.has('--werror') ? 'ON' : 'OFF'}`,
);
if (flags.has('--debug')) args.push('--debug');
const status = await locked(path.join(out, '.lock'), () => {
  const cache = path.join(out, 'CMakeCache.txt');
  // Another generator, or a moved checkout, cannot reuse the folder's configuration.
  if (fs.existsSync(cache)) {
    const text = fs.readFileSync(cache, 'utf8');
    if (
      !text.includes(`CMAKE_GENERATOR:INTERNAL=${generator}\n`) ||
      !text.includes(`CMAKE_HOME_DIRECTORY:INTERNAL=${project}\n`)
    ) {
      fs.rmSync(cache);
      fs.rmSync(path.join(out, 'CMakeFiles'), { recursive: true, force: true });
    }
  }
  const env = {
    ...process.env,
    CMAKE_BUILD_PARALLEL_LEVEL: process.env.CMAKE_BUILD_PARALLEL_LEVEL ?? String(navigatorCores()),
  };
  return spawnSync(process.execPath, args, { stdio: 'inherit', env }).status;
});
process.exit(status ?? 1);

function navigatorCores() {
  return Math.max(
    1,
    globalThis.navigator?.hardwareConcurrency ??
      createRequire(import.meta.url)('node:os').availableParallelism(),
  );
}
