/** The PyTorch process that kernel benchmarks run beside: a script of tools/peers. */
import { type ChildProcess, spawn } from 'node:child_process';
import path from 'node:path';
import readline from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { Precision } from './matrix-cases.js';

const folder = path.join(path.dirname(fileURLToPath(import.meta.url)), '../../../tools/peers');

export class TorchPeer {
  private readonly child: ChildProcess;
  private readonly lines: AsyncIterator<string>;

  /** @param python an interpreter that can import torch */
  constructor(python: string, script = 'torch_kernels.py') {
    this.child = spawn(python, [path.join(folder, script)], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.lines = readline
      .createInterface({ input: this.child.stdout as NodeJS.ReadableStream })
      [Symbol.asyncIterator]();
  }

  /** Fastest call in seconds, among those of about `seconds`. */
  async time(kernel: object, dtype: Precision, threads: number, seconds: number): Promise<number> {
    this.child.stdin?.write(`${JSON.stringify({ case: kernel, dtype, threads, seconds })}\n`);
    const { value, done } = await this.lines.next();
    if (done) throw new Error('the PyTorch process ended');
    return (JSON.parse(value) as { seconds: number }).seconds;
  }

  close(): void {
    this.child.stdin?.end();
  }
}
