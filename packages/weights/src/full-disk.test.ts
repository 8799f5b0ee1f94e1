import { execFileSync } from 'node:child_process';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';

/** Runs a program under a limit of 32 KiB a file: the kernel refuses to write on, as on a full disk. */
function limited(program: string): string {
  const script = `process.on('SIGXFSZ', () => {});
    import * as w from '@equipoise/weights';
    const values = new Float32Array(1 << 16);
    const report = (error) => console.log(error.code, /size limit|disk is full/.test(error.message));
    ${program}`;
  const node = `"${process.execPath}" --import=tsx --conditions=equipoise-source --input-type=module -e "$SCRIPT"`;
  const command = `ulimit -f 32; exec ${node}`;
  const env = { ...process.env, SCRIPT: script };
  return execFileSync('bash', ['-c', command], { cwd: import.meta.dirname, env, encoding: 'utf8' }).trim();
}

t.test('a disk that fills up: the error says so, and nothing half-written stays', async (t) => {
  const folder = t.testdir({ kept: { 'model.safetensors': 'old' } });
  const save = (to: string, options: string): string =>
    limited(`await w.saveModel(${JSON.stringify(join(folder, to))}, 'transformers', { architectures: ['X'] },
      ['a', 'b'].map((name) => w.float32Source(name, [values.length], values)), ${options}).then(
      () => console.log('written'), report);`);
  t.equal(save('kept', '{}'), 'io true');
  t.equal(await readFile(join(folder, 'kept/model.safetensors'), 'utf8'), 'old');
  t.same(await readdir(join(folder, 'kept')), ['model.safetensors']);
  t.equal(save('sharded', '{ maxShardBytes: 300000 }'), 'io true');
  t.same(await readdir(join(folder, 'sharded')), [], 'neither shards nor the index nor the config');
});
