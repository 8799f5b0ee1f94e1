// Builds the native addons with cmake-js. Usage: node tools/build-native.mjs [--sanitize] [--debug] [--werror]
// A missing compiler or CMake is told in one sentence that says what to install.
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { findToolchain, nvccPath, ToolchainError } from './lib/toolchain.mjs';

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

let toolchain;
try {
  toolchain = findToolchain();
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
const args = [cmakeJs, 'compile', '-d', project, '-O', out, '-G', toolchain.generator, '-l', 'error'];
args.push(
  `--CDEQ_SANITIZE=${flags.has('--sanitize') ? 'ON' : 'OFF'}`,
  `--CDEQ_WERROR=${flags.has('--werror') ? 'ON' : 'OFF'}`,
);
if (flags.has('--debug')) args.push('--debug');
const status = await locked(path.join(out, '.lock'), () => {
  // A moved checkout or other tools cannot reuse the folder's configuration.
  const stamp = path.join(out, 'toolchain.json');
  const found = path.join(out, 'CMakeFiles');
  const current = JSON.stringify({ project, ...toolchain, nvcc: nvccPath() ?? null });
  if (!fs.existsSync(stamp) || fs.readFileSync(stamp, 'utf8') !== current) {
    fs.rmSync(path.join(out, 'CMakeCache.txt'), { force: true });
    // What CMake found out about compilers; objects stay, Ninja and Make know which of them are out of date.
    for (const name of fs.existsSync(found) ? fs.readdirSync(found) : []) {
      if (/^\d/.test(name)) fs.rmSync(path.join(found, name), { recursive: true, force: true });
    }
    fs.writeFileSync(stamp, current);
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
