// Packs what a machine without Node and without a registry needs to run tools/gpu/check.sh: this Node, the CPU addon, and
// of node_modules the files that the checks load. Usage: node tools/gpu/pack.mjs [FOLDER]   (default build-gpu)
// The folder goes with the working tree; check.sh unpacks it where it finds no Node or no node_modules.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = path.dirname(path.dirname(path.dirname(fileURLToPath(import.meta.url))));
const out = path.resolve(root, process.argv[2] ?? 'build-gpu');
const require = createRequire(path.join(root, 'package.json'));
// tsx brings esbuild; it follows imports without running anything.
const esbuild = createRequire(require.resolve('tsx/package.json'))('esbuild');

/** Everything that the checks start. */
function entryPoints() {
  const tests = ['kernels', 'fused', ''].flatMap((folder) => {
    const at = path.join(root, 'packages', 'backend', 'src', folder);
    return fs
      .readdirSync(at, { withFileTypes: true })
      .flatMap((entry) => (entry.name.endsWith('.test.ts') ? [path.join(at, entry.name)] : []));
  });
  const files = [
    'apps/cli/src/main.ts',
    'benchmarks/src/main.ts',
    'benchmarks/src/gpu/main.ts',
    'tools/conformance/main.mjs',
    'tools/conformance/child.mjs',
  ];
  const own = fs.readdirSync(path.join(root, 'tools', 'gpu')).filter((name) => /\.(mjs|ts)$/.test(name));
  return [
    ...tests,
    ...[...files, ...own.map((name) => `tools/gpu/${name}`)].map((name) => path.join(root, name)),
  ];
}

/** Packages that are loaded by other means than imports that can be followed, taken whole. */
const WHOLE = [
  'tsx',
  'esbuild',
  '@esbuild/linux-x64',
  'get-tsconfig',
  'resolve-pkg-maps',
  'jasmine-core',
  'node-api-headers',
  'node-addon-api',
  'sharp',
  '@img/sharp-linux-x64',
  '@img/sharp-libvips-linux-x64',
  '@img/colour',
  'detect-libc',
  'semver',
];
const skipped =
  /\.(map|d\.ts|d\.mts|d\.cts|md|markdown|html|flow|ts\.snap|tsbuildinfo|lib)$|\/(docs?|man)\//i;

function filesUnder(folder) {
  if (!fs.existsSync(folder)) return [];
  return fs
    .readdirSync(folder, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.join(entry.parentPath ?? entry.path, entry.name));
}

/** The files of node_modules that imports reach, with the package.json of each of their packages. */
async function reachable() {
  const { metafile, errors } = await esbuild
    .build({
      entryPoints: entryPoints(),
      absWorkingDir: root,
      bundle: true,
      write: false,
      outdir: path.join(out, 'nowhere'),
      metafile: true,
      platform: 'node',
      format: 'esm',
      conditions: ['equipoise-source'],
      external: [
        '*.node',
        '@duckdb/*',
        'sharp',
        'tsx',
        'esbuild',
        'jasmine-core',
        '@tensorflow/tfjs-node',
        '@tensorflow/tfjs-node-gpu',
      ],
      logLevel: 'silent',
    })
    .catch((error) => error);
  if (!metafile) throw new Error(`the imports could not be followed: ${errors?.[0]?.text ?? errors}`);
  return Object.keys(metafile.inputs)
    .map((name) => path.resolve(root, name))
    .filter((name) => name.includes(`${path.sep}node_modules${path.sep}`));
}

/** What Node reads besides: the package.json that governs a file, up to the package's own. */
function manifests(files) {
  const found = new Set();
  for (const file of files) {
    for (
      let at = path.dirname(file);
      path.basename(at) !== 'node_modules' && at.length > root.length;
      at = path.dirname(at)
    )
      if (fs.existsSync(path.join(at, 'package.json'))) found.add(path.join(at, 'package.json'));
  }
  return found;
}

const modules = path.join(root, 'node_modules');
const conformance = filesUnder(path.join(modules, '@tensorflow', 'tfjs-core', 'dist')).filter(
  (file) =>
    file.endsWith('.js') &&
    !/\/(tf-core\.(es2017|fesm|min)|miniprogram)/.test(file) &&
    !/\.min\.js$/.test(file),
);
const whole = WHOLE.flatMap((name) => filesUnder(path.join(modules, name)));
// Both the files that esbuild chose and the CommonJS mains that Node chooses for `require`.
const mains = [
  'tfjs',
  'tfjs-core',
  'tfjs-backend-cpu',
  'tfjs-layers',
  'tfjs-data',
  'tfjs-converter',
  'tfjs-backend-webgl',
].map((name) =>
  path.join(
    modules,
    '@tensorflow',
    name,
    JSON.parse(fs.readFileSync(path.join(modules, '@tensorflow', name, 'package.json'))).main,
  ),
);
const files = new Set([
  ...(await reachable()),
  ...mains,
  ...[...conformance, ...whole].filter((file) => !skipped.test(file)),
]);
for (const file of manifests(files)) files.add(file);
// The workspaces' own links.
const links = ['@equipoise', 'equipoise'].flatMap((name) => {
  const at = path.join(modules, name);
  if (!fs.existsSync(at)) return [];
  return fs.lstatSync(at).isSymbolicLink() ? [at] : fs.readdirSync(at).map((inner) => path.join(at, inner));
});

const cpu = path.join(root, 'packages', 'native', 'build', 'bin', 'equipoise_cpu.node');
if (!fs.existsSync(cpu)) throw new Error(`${cpu} is missing: run "npm run build:native"`);

fs.rmSync(out, { recursive: true, force: true });
fs.mkdirSync(out, { recursive: true });
const list = path.join(out, 'files');
fs.writeFileSync(
  list,
  [...files, ...links]
    .map((file) => path.relative(root, file))
    .sort()
    .join('\n'),
);
const tar = (archive, args) =>
  execFileSync('tar', ['-cf', path.join(out, archive), '-I', 'xz -6 -T0', ...args], { stdio: 'inherit' });
tar('modules.tar.xz', ['-C', root, '-T', list]);
const stripped = fs.mkdtempSync(path.join(os.tmpdir(), 'node-'));
try {
  fs.copyFileSync(process.execPath, path.join(stripped, 'node'));
  execFileSync('strip', [path.join(stripped, 'node')]);
  tar('node.tar.xz', ['-C', stripped, 'node']);
  fs.copyFileSync(cpu, path.join(stripped, path.basename(cpu)));
  execFileSync('strip', ['--strip-debug', path.join(stripped, path.basename(cpu))]);
  tar('equipoise_cpu.tar.xz', ['-C', stripped, path.basename(cpu)]);
} finally {
  fs.rmSync(stripped, { recursive: true, force: true });
}
if (process.env.KEEP === undefined) fs.rmSync(list);
for (const name of fs.readdirSync(out))
  console.log(
    `${(fs.statSync(path.join(out, name)).size / 2 ** 20).toFixed(1)} MiB  ${path.relative(root, path.join(out, name))}`,
  );
