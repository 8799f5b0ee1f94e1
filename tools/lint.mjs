// `npm run lint`: every static check, all run even if one fails. `npm run format` (--write) applies what can be fixed.
// Options: --write; --only NAME[,NAME] of biome, clang-format, imports, knip.
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { CommandError, installedBin, main, root } from './lib/setup.mjs';
import { clangFormat } from './lib/toolchain.mjs';

const checks = {
  /** TypeScript and JavaScript: rules, import order and format. */
  biome: ({ write }) => node('biome', ['check', '--error-on-warnings', ...(write ? ['--write'] : []), '.']),
  /** C++ and CUDA format. */
  'clang-format': ({ write }) => {
    const tool = clangFormat();
    if (!tool) return skip('clang-format 19 was not found (Debian/Ubuntu: apt-get install clang-format-19)');
    const files = fs
      .readdirSync(path.join(root, 'native'), { recursive: true })
      .filter((file) => /\.(cc|h|cu|cuh)$/.test(file))
      .map((file) => path.join('native', file));
    if (files.length === 0) throw new CommandError('lint: expected C++ files under native/, found none');
    return run(tool, [...(write ? ['-i'] : ['--dry-run', '--Werror']), ...files]);
  },
  /** Direction of imports, cycles, undeclared dependencies: .dependency-cruiser.cjs. */
  imports: () => node('depcruise', ['packages', 'apps', 'benchmarks', '--output-type', 'err']),
  /** Exports, files and dependencies that nobody uses or declares: knip.json. */
  knip: () => node('knip', ['--no-progress', '--no-config-hints']),
};

function node(name, args) {
  return run(process.execPath, [installedBin(name), ...args]);
}

function run(command, args) {
  const result = spawnSync(command, args, { cwd: root, stdio: 'inherit' });
  if (result.error) throw new CommandError(`lint: ${command} could not be started: ${result.error.message}`);
  return result.status === 0;
}

function skip(reason) {
  console.log(`skipped: ${reason}`);
  return true;
}

function parseArguments(args) {
  const options = { write: false, names: Object.keys(checks) };
  for (let i = 0; i < args.length; i++) {
    if (args[i] === '--write') options.write = true;
    else if (args[i] === '--only') options.names = (args[++i] ?? '').split(',');
    else throw new CommandError(`lint: expected --write or --only NAMES, got ${args[i]}`);
  }
  for (const name of options.names) {
    if (!Object.hasOwn(checks, name))
      throw new CommandError(`lint: expected ${Object.keys(checks).join(', ')}, got "${name}"`);
  }
  if (options.write)
    options.names = options.names.filter((name) => name === 'biome' || name === 'clang-format');
  return options;
}

await main(() => {
  const options = parseArguments(process.argv.slice(2));
  const failed = options.names.filter((name) => {
    console.log(`\n# ${name}`);
    return !checks[name](options);
  });
  console.log(failed.length === 0 ? '\nlint: clean' : `\nlint: failed: ${failed.join(', ')}`);
  return failed.length === 0 ? 0 : 1;
});
