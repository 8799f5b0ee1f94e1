// Registers, stack, spills and static shared memory of every CUDA kernel, as the assembler counted them.
// Usage: node tools/gpu/resources.mjs [--build FOLDER] [--json FILE]
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';

const root = path.dirname(path.dirname(path.dirname(fileURLToPath(import.meta.url))));
export const BASELINE = path.join(root, 'benchmarks', 'baselines', 'cuda-resources.json');

function output(command, args, input) {
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    encoding: 'utf8',
    input,
    maxBuffer: 1 << 28,
  });
  if (status !== 0)
    throw new Error(`${command} ${args.join(' ')} failed: ${error?.message ?? stderr.trim()}`);
  return stdout;
}

/** The release of the nvcc on PATH; undefined where there is none. */
function compilerRelease() {
  const { status, stdout } = spawnSync('nvcc', ['--version'], { encoding: 'utf8' });
  return status === 0 ? /release ([\d.]+)/.exec(stdout)?.[1] : undefined;
}

/**
 * Kernels of one file: { name: { architecture: { registers, stack, spills, shared } } }. A line names the kernel and the
 * architecture, one tells stack and spills in bytes, one registers and static shared memory.
 * @param log what `ptxas -v` said, demangled
 */
export function parseResources(log) {
  const kernels = {};
  let kernel;
  for (const line of log.split('\n')) {
    const entry = /Compiling entry function '(.*)' for '(\w+)'/.exec(line);
    if (entry) {
      kernels[entry[1]] ??= {};
      kernel = kernels[entry[1]][entry[2]] = { registers: 0, stack: 0, spills: 0, shared: 0 };
    }
    const frame = /(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads/.exec(line);
    if (frame && kernel && kernel.registers === 0) {
      kernel.stack = Number(frame[1]);
      kernel.spills = Number(frame[2]) + Number(frame[3]);
    }
    const used = /Used (\d+) registers/.exec(line);
    if (used && kernel) {
      kernel.registers = Number(used[1]);
      kernel.shared = Number(/(\d+) bytes smem/.exec(line)?.[1] ?? 0);
    }
  }
  return kernels;
}

/**
 * What was compiled into `build`, by source file under native/kernels: { compiler, files }; { reason } where the
 * compiler or its logs (nvcc-log.sh) are missing.
 */
export function readResources(build = path.join(root, 'packages', 'native', 'build')) {
  const compiler = compilerRelease();
  if (!compiler) return { reason: 'nvcc is not installed' };
  const folder = path.join(build, 'CMakeFiles', 'eq_cuda_kernels.dir');
  const logs = fs.existsSync(folder)
    ? fs.readdirSync(folder, { recursive: true }).filter((name) => name.endsWith('.cu.o.ptxas'))
    : [];
  const files = {};
  for (const name of logs.sort()) {
    const source = /native\/kernels\/(.*)\.o\.ptxas$/.exec(name.replaceAll(path.sep, '/'))?.[1];
    // What a source that is gone left behind stays in the build folder.
    if (!source || !fs.existsSync(path.join(root, 'native', 'kernels', source))) continue;
    files[source] = parseResources(output('c++filt', [], fs.readFileSync(path.join(folder, name), 'utf8')));
  }
  if (Object.keys(files).length === 0) return { reason: 'the CUDA kernels have not been compiled' };
  return { compiler, files };
}

/** Sentences about every kernel that spills more than before, or is new in its file and spills. */
export function growth(baseline, current) {
  const found = [];
  for (const [file, kernels] of Object.entries(current.files)) {
    if (baseline.files[file] === undefined) continue;
    for (const [name, architectures] of Object.entries(kernels)) {
      for (const [architecture, { spills }] of Object.entries(architectures)) {
        const before = baseline.files[file]?.[name]?.[architecture]?.spills ?? 0;
        if (spills > before)
          found.push(`${file}: ${name} (${architecture}) spills ${spills} bytes, ${before} before`);
      }
    }
  }
  return found;
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const string = { type: 'string' };
  const { values } = parseArgs({ options: { build: string, json: string } });
  const resources = readResources(values.build);
  if (resources.reason) {
    console.error(`resources: ${resources.reason}`);
    process.exitCode = 1;
  } else {
    if (values.json) fs.writeFileSync(values.json, `${JSON.stringify(resources, null, 1)}\n`);
    for (const [file, kernels] of Object.entries(resources.files))
      for (const [name, architectures] of Object.entries(kernels))
        for (const [architecture, { registers, stack, spills, shared }] of Object.entries(architectures))
          console.log(
            `${architecture.padEnd(7)} ${String(registers).padStart(3)} registers ${String(stack).padStart(5)} stack ${String(spills).padStart(5)} spilled ${String(shared).padStart(6)} shared  ${file}: ${name}`,
          );
  }
}
