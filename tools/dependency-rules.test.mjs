// The rules of .dependency-cruiser.cjs must be able to fail: each is shown a small tree that breaks it.
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import t from 'tap';
import { installedBin, root } from './lib/setup.mjs';

/** Names of the rules that a tree of files breaks. */
function violations(t, files) {
  const folder = t.testdir({ ...tree(files), 'package.json': '{ "type": "module" }' });
  const args = [
    installedBin('depcruise'),
    '--config',
    path.join(root, '.dependency-cruiser.cjs'),
    '--output-type',
    'json',
    '.',
  ];
  const result = spawnSync(process.execPath, args, { cwd: folder, encoding: 'utf8' });
  const { violations: found } = JSON.parse(result.stdout).summary;
  return [...new Set(found.map((violation) => violation.rule.name))].sort();
}

/** `{ 'a/b.ts': text }` as the nested folders that testdir takes. */
function tree(files) {
  const nested = {};
  for (const [file, text] of Object.entries(files)) {
    const parts = file.split('/');
    const name = parts.pop();
    let at = nested;
    for (const part of parts) at = at[part] ??= {};
    at[name] = text;
  }
  return nested;
}

const empty = 'export const x = 1;\n';
const imports = (target) => `import { x } from '${target}';\nexport const y = x;\n`;
const native = { 'packages/native/src/index.ts': empty };

t.test('a tree that keeps the rules is clean', (t) => {
  const backend = {
    'packages/backend/src/index.ts': imports('./other.ts'),
    'packages/backend/src/other.ts': empty,
  };
  t.same(violations(t, { ...native, ...backend }), []);
  t.end();
});

t.test('the addon is reached through the backend only, and never from pure packages', (t) => {
  const files = {
    ...native,
    'packages/models/src/unet.ts': imports('../../native/src/index.ts'),
    'packages/metrics/src/index.ts': imports('./far.ts'),
    'packages/metrics/src/far.ts': imports('../../backend/src/index.ts'),
    'packages/backend/src/index.ts': imports('../../native/src/index.ts'),
  };
  const found = violations(t, files);
  for (const rule of [
    'engine-only-through-backend',
    'pure-packages-without-engine',
    'no-reaching-into-packages',
  ]) {
    t.ok(found.includes(rule), rule);
  }
  t.end();
});

t.test('lower layers do not import higher ones', (t) => {
  const files = {
    'packages/core/src/index.ts': imports('../../report/src/index.ts'),
    'packages/report/src/index.ts': empty,
    'packages/models/src/index.ts': imports('../../diffusion/src/index.ts'),
    'packages/diffusion/src/index.ts': imports('../../mi-tune/src/index.ts'),
    'packages/mi-tune/src/index.ts': imports('../../../apps/cli/src/index.ts'),
    'packages/backend/src/index.ts': imports('../../models/src/index.ts'),
    'apps/cli/src/index.ts': empty,
  };
  const found = violations(t, files);
  const rules = [
    'core-at-the-bottom',
    'models-below-diffusion',
    'models-below-pipelines',
    'packages-below-apps',
    'backend-below-models',
  ];
  for (const rule of rules) t.ok(found.includes(rule), rule);
  t.end();
});

t.test('cycles, tests as dependencies, and what cannot be resolved', (t) => {
  const files = {
    'packages/core/src/a.ts': imports('./b.ts'),
    'packages/core/src/b.ts': imports('./a.ts'),
    'packages/core/src/c.ts': imports('./d.test.ts'),
    'packages/core/src/d.test.ts': empty,
    'packages/core/src/e.ts': imports('./nowhere.ts'),
    'packages/core/src/f.ts': imports('../../testing/src/index.ts'),
    'packages/testing/src/index.ts': empty,
  };
  const found = violations(t, files);
  for (const rule of ['no-cycles', 'nobody-imports-tests', 'resolvable', 'testing-only-in-tests'])
    t.ok(found.includes(rule), rule);
  t.end();
});
