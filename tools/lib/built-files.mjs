// What the build leaves that a result can depend on.
import fs from 'node:fs';
import path from 'node:path';

/** Compiled scripts, without tests, and addons, as sorted paths relative to `root`. */
export function builtFiles(root) {
  const entries = (folder, options) =>
    fs.existsSync(path.join(root, folder))
      ? fs.readdirSync(path.join(root, folder), options).map((name) => path.join(folder, name))
      : [];
  const scripts = ['packages', 'apps']
    .flatMap((parent) => entries(parent))
    .flatMap((folder) => entries(path.join(folder, 'dist'), { recursive: true }))
    .filter((file) => file.endsWith('.js') && !file.endsWith('.test.js'));
  // Programs and folders beside the addons are of the tests.
  const addons = entries(path.join('packages', 'native', 'build', 'bin')).filter((file) =>
    file.endsWith('.node'),
  );
  return [...scripts, ...addons].sort();
}
