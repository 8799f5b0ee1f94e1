import t from 'tap';
import { builtFiles } from './built-files.mjs';

t.test('compiled scripts and addons, but no tests and nothing of the tests', (t) => {
  const root = t.testdir({
    packages: {
      a: {
        dist: { 'index.js': '', 'index.test.js': '', 'index.d.ts': '', inner: { 'more.js': '' } },
        src: {},
      },
      native: { build: { bin: { 'one.node': '', probe: '', modelled: { 'two.node': '' } } } },
    },
    apps: { cli: { dist: { 'main.js': '' } } },
  });
  t.same(builtFiles(root), [
    'apps/cli/dist/main.js',
    'packages/a/dist/index.js',
    'packages/a/dist/inner/more.js',
    'packages/native/build/bin/one.node',
  ]);
  t.same(builtFiles(t.testdir()), [], 'nothing before a build');
  t.end();
});
