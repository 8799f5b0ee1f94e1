// From a bare checkout to something that can run: dependencies, tap's own test module, nx. Plain Node built-ins.
import { spawnSync } from 'node:child_process';
import crypto from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { checkNode, findToolchain } from './toolchain.mjs';

export const root = path.dirname(path.dirname(path.dirname(fileURLToPath(import.meta.url))));

/** A command that failed; the message names it. */
export class CommandError extends Error {
  name = 'CommandError';
}

/** Runs a command in the repository with its output shown. @throws CommandError */
export function runOrThrow(command, args, options = {}) {
  const result = spawnSync(command, args, { cwd: root, stdio: 'inherit', ...options });
  if (result.error) throw new CommandError(`${command} could not be started: ${result.error.message}`);
  if (result.status !== 0) {
    const how = result.signal ? `was killed by ${result.signal}` : `failed with exit status ${result.status}`;
    throw new CommandError(`${path.basename(command)} ${args.join(' ')} ${how}`);
  }
}

/** A binary that a dependency brings. */
export function installedBin(name) {
  return path.join(root, 'node_modules', '.bin', name);
}

/** Checks Node and the native toolchain, then installs what is missing. Does nothing when all is in place. */
export function setUp() {
  checkNode();
  findToolchain();
  installDependencies();
  buildTap();
}

/** Runs `npm ci` when node_modules is missing or does not hold what package-lock.json asks for. */
function installDependencies() {
  const reason = staleDependencies();
  if (!reason) return;
  console.log(`Installing dependencies (${reason}) …`);
  // npm_execpath is set when npm started this; the file is then run with this very Node.
  const npm = process.env.npm_execpath;
  const args = ['ci', '--no-audit', '--no-fund', '--loglevel=error'];
  if (npm?.endsWith('.js')) runOrThrow(process.execPath, [npm, ...args]);
  else runOrThrow('npm', args);
}

/** Why node_modules cannot be used, or undefined. npm leaves a copy of the lock of what it installed inside. */
export function staleDependencies() {
  const wanted = readJson(path.join(root, 'package-lock.json'));
  if (!wanted) throw new CommandError('package-lock.json is missing or damaged: check it out again');
  const installed = readJson(path.join(root, 'node_modules', '.package-lock.json'));
  if (!installed) return 'node_modules is missing';
  for (const [location, entry] of Object.entries(wanted.packages)) {
    if (!location.includes('node_modules/')) continue;
    const present = installed.packages[location];
    // Optional packages for other platforms are rightly absent.
    if (!present && (entry.optional || entry.devOptional)) continue;
    if (!present) return `${location} is missing`;
    if (
      present.version !== entry.version ||
      present.integrity !== entry.integrity ||
      present.link !== entry.link
    ) {
      return `${location} is ${present.version ?? 'a link'}, not ${entry.version ?? 'a link'}`;
    }
  }
  return undefined;
}

/** tap compiles its test module for the plugins chosen in .taprc; once here, since packages test in parallel. */
function buildTap() {
  const marker = path.join(root, '.tap', 'built');
  const key = crypto
    .createHash('sha256')
    .update(root)
    .update(fs.readFileSync(path.join(root, '.taprc')))
    .update(fs.readFileSync(path.join(root, 'node_modules', '.package-lock.json')))
    .digest('hex');
  const module = path.join(root, 'node_modules', '@tapjs', 'test', 'test-built', 'dist', 'esm', 'index.js');
  if (fs.existsSync(module) && fs.existsSync(marker) && fs.readFileSync(marker, 'utf8') === key) return;
  console.log("Building tap's test module …");
  runOrThrow(process.execPath, [installedBin('tap'), 'build'], { stdio: ['ignore', 'ignore', 'inherit'] });
  fs.mkdirSync(path.dirname(marker), { recursive: true });
  fs.writeFileSync(marker, key);
}

function readJson(file) {
  try {
    return JSON.parse(fs.readFileSync(file, 'utf8'));
  } catch {
    return undefined;
  }
}

/** Runs `work`; a failure that a person can act on is printed as one line and ends the process with status 1. */
export async function main(work) {
  try {
    process.exitCode = (await work()) ?? 0;
  } catch (error) {
    const expected = error.name === 'ToolchainError' || error.name === 'CommandError';
    console.error(expected ? error.message : error.stack);
    process.exitCode = 1;
  }
}
