// Module hooks that let Node run the ESM copy of @tensorflow/tfjs-core, which was compiled for bundlers: its imports
// have no file extensions, some files call require(), and two CommonJS packages are imported as namespaces.
import fs from 'node:fs';
import { fileURLToPath } from 'node:url';

let dist;

/** @param {{dist: string}} data the URL of tfjs-core's dist folder, with a slash at its end */
export function initialize(data) {
  dist = data.dist;
}

/** The ESM files of tfjs-core; its bundles (tf-core.*) are CommonJS and lie in the same folder. */
const isOurs = (url) => url?.startsWith(dist) && url.endsWith('.js') && !url.startsWith(`${dist}tf-core.`);
const isFile = (url) => fs.statSync(fileURLToPath(url), { throwIfNoEntry: false })?.isFile() ?? false;

export function resolve(specifier, context, next) {
  if (isOurs(context.parentURL) && specifier.startsWith('.')) {
    const base = new URL(specifier, context.parentURL).href;
    const url = [base, `${base}.js`, `${base}/index.js`].find(isFile);
    if (url) return { url, format: 'module', shortCircuit: true };
  }
  return next(specifier, context);
}

/** Replaces exactly what is expected to be there; anything else is another version of the suite. */
function edit(source, what, pattern, replacement) {
  const edited = source.replace(pattern, replacement);
  if (edited === source)
    throw new Error(
      `conformance: test_util.js no longer has ${what}; the strict comparison cannot be put in`,
    );
  return edited;
}

/** The suite takes any two non-finite numbers for equal, and NaN for inside every range. Here it does not. */
function strict(source) {
  const equal = edit(
    source,
    'the comparison of non-finite numbers',
    /if \(!isFinite\(a\) && !isFinite\(e\)\) \{\s*return true;\s*\}/,
    'if (!isFinite(a) || !isFinite(e)) { return Object.is(a, e); }',
  );
  return edit(
    equal,
    'the range check',
    /if \(actual\[i\] < low \|\| actual\[i\] > high\)/,
    'if (!(actual[i] >= low && actual[i] <= high))',
  );
}

export function load(url, context, next) {
  if (!isOurs(url)) return next(url, context);
  let source = fs.readFileSync(fileURLToPath(url), 'utf8');
  // Inline source maps are most of the bytes.
  source = source.replace(/^\/\/# sourceMappingURL=.*$/m, '');
  source = source.replace(/^import \* as (\w+) from '(seedrandom|long)';/gm, "import $1 from '$2';");
  if (/\brequire\b *[(.]/.test(source))
    source = `import { createRequire as $createRequire } from 'node:module';const require = $createRequire(import.meta.url);${source}`;
  if (url === `${dist}test_util.js`) source = strict(source);
  return { format: 'module', source, shortCircuit: true };
}
