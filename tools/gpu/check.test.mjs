/** What of check.sh can be tried without a GPU: its options, its report, and the options that it gives to others. */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';

const folder = path.dirname(fileURLToPath(import.meta.url));
const root = path.dirname(path.dirname(folder));
const script = path.join(folder, 'check.sh');
const run = (...args) => spawnSync(script, args, { encoding: 'utf8' });

t.test('unknown parts and options are refused', (t) => {
  t.match(run('--only', 'build,nothing'), { status: 2, stderr: /no part nothing; there are: build doctor/ });
  t.match(run('--minutes', 'few'), { status: 2, stderr: /--minutes: expected a whole number, got few/ });
  t.match(run('--unknown', '1'), { status: 2, stderr: /tools\/gpu\/check\.sh \[--only PART/ });
  t.end();
});

t.test('what does not fit into the time is told', (t) => {
  const out = t.testdir();
  const { status } = run('--only', 'doctor,tests', '--minutes', '0', '--out', out);
  t.equal(status, 1);
  const { parts } = JSON.parse(fs.readFileSync(path.join(out, 'report.json'), 'utf8'));
  t.match(parts, [
    { part: 'doctor', passed: false, status: 'no time' },
    { part: 'tests', passed: false, status: 'no time' },
  ]);
  t.match(fs.readFileSync(path.join(out, 'report.txt'), 'utf8'), /doctor +FAILED \(no time\)/);
  t.ok(fs.existsSync(path.join(out, 'logs.tar.gz')));
  t.end();
});

t.test('the pipelines get options that there are', (t) => {
  const sizes = /local sizes="(.*)"/.exec(fs.readFileSync(script, 'utf8'))?.[1] ?? '';
  const args = [
    '--import=tsx',
    '--conditions=equipoise-source',
    'apps/cli/src/main.ts',
    'showcase',
    '--help',
  ];
  const { stdout } = spawnSync(process.execPath, args, { cwd: root, encoding: 'utf8' });
  const options = sizes.split(' ').filter((word) => word.startsWith('--'));
  t.ok(options.length > 3);
  for (const option of options) t.match(stdout, new RegExp(`${option}\\b`), option);
  t.end();
});
