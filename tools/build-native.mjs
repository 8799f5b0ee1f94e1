// Builds the native addons with cmake-js. Usage: node tools/build-native.mjs [--sanitize] [--debug] [--werror]
// A missing compiler or CMake is told in one sentence that says what to install.
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

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

/** First candidate that runs and prints a version, or undefined. */
function find(...candidates) {
  return candidates.find((c) => c && spawnSync(c, ['--version'], { stdio: 'ignore' }).status === 0);
}

const minCmake = [3, 20];
const cmake = find('cmake');
if (!cmake) fail('CMake was not found: install CMake 3.20 or newer (Debian/Ubuntu: apt-get install cmake).');
const version = /(\d+)\.(\d+)/.exec(spawnSync(cmake, ['--version'], { encoding: 'utf8' }).stdout);
if (version && (Number(version[1]) < minCmake[0] || (Number(version[1]) === minCmake[0] && Number(version[2]) < minCmake[1]))) {
  fail(`CMake ${version[0]} is too old: install CMake ${minCmake.join('.')} or newer.`);
}
const compiler = find(process.env.CXX, 'c++', 'g++', 'clang++');
if (!compiler) fail('No C++ compiler was found: install g++ 11 or clang 14 or newer (Debian/Ubuntu: apt-get install g++).');
const probe = spawnSync(compiler, ['-std=c++20', '-x', 'c++', '-fsyntax-only', '-'], { input: '#include <bit>\n#include <concepts>\n', encoding: 'utf8' });
if (probe.status !== 0) fail(`${compiler} does not compile C++20: install g++ 11 or clang 14 or newer.`);
const generator = find('ninja') ? 'Ninja' : find('make', 'gmake') ? 'Unix Makefiles' : undefined;
if (!generator) fail('Neither Ninja nor Make was found: install one (Debian/Ubuntu: apt-get install ninja-build or make).');

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
args.push(`--CDEQ_SANITIZE=${flags.has('--sanitize') ? 'ON' : 'OFF'}`, `--CDEQ_WERROR=${flags.has('--werror') ? 'ON' : 'OFF'}`);
if (flags.has('--debug')) args.push('--debug');
const status = await locked(path.join(out, '.lock'), () => {
  const cache = path.join(out, 'CMakeCache.txt');
  // Another generator, or a moved checkout, cannot reuse the folder's configuration.
  if (fs.existsSync(cache)) {
    const text = fs.readFileSync(cache, 'utf8');
    if (!text.includes(`CMAKE_GENERATOR:INTERNAL=${generator}\n`) || !text.includes(`CMAKE_HOME_DIRECTORY:INTERNAL=${project}\n`)) {
      fs.rmSync(cache);
      fs.rmSync(path.join(out, 'CMakeFiles'), { recursive: true, force: true });
    }
  }
  const env = { ...process.env, CMAKE_BUILD_PARALLEL_LEVEL: process.env.CMAKE_BUILD_PARALLEL_LEVEL ?? String(navigatorCores()) };
  return spawnSync(process.execPath, args, { stdio: 'inherit', env }).status;
});
process.exit(status ?? 1);

function navigatorCores() {
  return Math.max(1, globalThis.navigator?.hardwareConcurrency ?? createRequire(import.meta.url)('node:os').availableParallelism());
}
