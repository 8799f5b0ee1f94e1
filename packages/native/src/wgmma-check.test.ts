/**
 * The sm_90a matrix kernel is offered after a check in a process of its own (native/kernels/gemm/core/cuda_wgmma_check.cu),
 * here in the SIMT shim: whatever that process comes to, this one goes on, and the verdict is kept.
 */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';
import { addonCandidates } from './index.js';

const addon = addonCandidates('simt').find((file) => fs.existsSync(file));

/** What a new process of an sm_90 device says of the kernel. */
function ask(cache: string, env: Record<string, string> = {}): string {
  if (addon === undefined) throw new Error('equipoise_simt.node was not built: run "npm run build:native"');
  const script = 'process.stdout.write(require(process.argv[1]).describe().wgmma)';
  return execFileSync(process.execPath, ['-e', script, addon], {
    encoding: 'utf8',
    stdio: 'pipe',
    env: { ...process.env, EQUIPOISE_SIMT_CAPABILITY: '90', XDG_CACHE_HOME: cache, ...env },
  });
}
const verdicts = (cache: string): string[] =>
  fs
    .readFileSync(path.join(cache, 'equipoise', 'cuda-wgmma.tsv'), 'utf8')
    .split('\n')
    .slice(0, -1);

t.test('a kernel that passes is used, and not checked again', (t: Test) => {
  const cache = t.testdir();
  t.equal(ask(cache), 'on');
  t.match(verdicts(cache), [/^simt, driver .*, build [\d ]+\t$/]);
  t.equal(ask(cache, { EQUIPOISE_SIMT_WGMMA: 'trap' }), 'on', 'another check would fail');
  t.equal(verdicts(cache).length, 1);
  t.end();
});

t.test('a kernel that stops its process is not used', (t: Test) => {
  const failures: Record<string, string> = {
    trap: 'ended by signal 6',
    hang: 'did not end within 0.5 s',
    throw: 'stopped with an error',
  };
  for (const [how, story] of Object.entries(failures)) {
    const cache = t.testdir();
    t.equal(ask(cache, { EQUIPOISE_SIMT_WGMMA: how }), `failed its check, not used: ${story}`);
    t.equal(ask(cache), `failed its check, not used: ${story}`, 'not checked again');
    t.equal(verdicts(cache).length, 1);
  }
  t.end();
});

t.test('EQUIPOISE_CUDA_WGMMA switches the kernel off, and takes no other word', (t: Test) => {
  const cache = t.testdir();
  t.equal(ask(cache, { EQUIPOISE_CUDA_WGMMA: '0' }), 'off (EQUIPOISE_CUDA_WGMMA=0)');
  t.throws(
    () => ask(cache, { EQUIPOISE_CUDA_WGMMA: 'yes' }),
    /EQUIPOISE_CUDA_WGMMA: expected 0 or 1, got "yes"/,
  );
  t.end();
});
