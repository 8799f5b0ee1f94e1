/** A family of TensorFlow.js's own specs, so that the conformance suite itself stays runnable; `npm run conformance` runs all. */
import { spawn } from 'node:child_process';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';

const root = fileURLToPath(new URL('../../../', import.meta.url));

t.test("TensorFlow.js's specs of concat pass, and none is served by another backend", async (t) => {
  const child = spawn(
    process.execPath,
    [
      path.join(root, 'tools', 'conformance', 'main.mjs'),
      ...['--module', path.join(root, 'packages', 'backend', 'src', 'index.ts'), '--grep', 'concat'],
    ],
    {
      cwd: root,
      env: { ...process.env, NODE_OPTIONS: '--import=tsx --conditions=equipoise-source' },
      stdio: ['ignore', 'pipe', 'pipe'],
    },
  );
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
  const status = await new Promise((resolve) => child.on('close', resolve));
  const last = /conformance: (\d+) passed, (\d+) failed, (\d+) missing/.exec(output);
  t.ok(Number(last?.[1]) >= 60, output);
  t.same(last?.slice(2), ['0', '0'], output);
  t.equal(status, 0);
});
