// The npm workspaces of the repository. Plain Node built-ins.
import fs from 'node:fs';
import path from 'node:path';

/** Folders, manifests and test files (relative to the folder, sorted) of all workspaces. */
export function findWorkspaces(root) {
  const { workspaces } = JSON.parse(fs.readFileSync(path.join(root, 'package.json'), 'utf8'));
  return workspaces
    .flatMap((pattern) => expand(root, pattern))
    .map((folder) => {
      const manifest = JSON.parse(fs.readFileSync(path.join(folder, 'package.json'), 'utf8'));
      return { name: manifest.name, folder, manifest, testFiles: listTests(folder) };
    });
}

function expand(root, pattern) {
  if (!pattern.endsWith('/*')) return [path.join(root, pattern)].filter(isWorkspace);
  const parent = path.join(root, pattern.slice(0, -2));
  return fs
    .readdirSync(parent)
    .sort()
    .map((name) => path.join(parent, name))
    .filter(isWorkspace);
}

function isWorkspace(folder) {
  return fs.existsSync(path.join(folder, 'package.json'));
}

function listTests(folder) {
  const skipped = new Set(['node_modules', 'dist', 'build', 'build-sanitize', '.tap', 'fixtures']);
  const found = [];
  const walk = (relative) => {
    for (const entry of fs.readdirSync(path.join(folder, relative), { withFileTypes: true })) {
      const name = path.posix.join(relative, entry.name);
      if (entry.isDirectory() && !skipped.has(entry.name)) walk(name);
      else if (/\.test\.(ts|mjs)$/.test(entry.name)) found.push(name);
    }
  };
  walk('');
  return found.sort();
}
