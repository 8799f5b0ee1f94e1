/** A child process that answers the requests of protocol.ts: ours, or the peer's. */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import path from 'node:path';
import readline from 'node:readline';
import { fileURLToPath } from 'node:url';
import { EquipoiseError } from '@equipoise/core';
import type { Work } from '../measure/work.js';
import type { ModelReply, ModelRequest } from './protocol.js';

const here = path.dirname(fileURLToPath(import.meta.url));
// The same from src/ and dist/.
export const peerScript = path.join(here, '..', '..', '..', 'tools', 'peers', 'torch_models.py');

export interface Measurement {
  readonly seconds: number;
  /** Largest resident size of the process so far. */
  readonly peakBytes: number;
  /** What a `count` found. */
  readonly work?: Work;
}

export class Participant {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #lines: AsyncIterator<string>;
  #errors = '';

  private constructor(
    readonly name: string,
    command: string,
    args: readonly string[],
  ) {
    this.#child = spawn(command, args, { stdio: 'pipe' });
    this.#child.stderr.on('data', (chunk: Buffer) => {
      this.#errors = (this.#errors + chunk.toString()).slice(-4000);
    });
    this.#lines = readline.createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
  }

  static ours(): Participant {
    const extension = path.extname(fileURLToPath(import.meta.url));
    return new Participant('equipoise', process.execPath, [
      ...process.execArgv,
      path.join(here, `child${extension}`),
    ]);
  }

  static peer(name: string, python: string): Participant {
    return new Participant(name, python, [peerScript, 'serve']);
  }

  /** @throws EquipoiseError when the process fails or ends */
  async ask(request: ModelRequest): Promise<Measurement> {
    this.#child.stdin.write(`${JSON.stringify(request)}\n`);
    const { value, done } = await this.#lines.next();
    if (done) throw new EquipoiseError('internal', `${this.name} ended: ${this.#errors.trim()}`);
    const reply = JSON.parse(value) as ModelReply;
    if ('error' in reply) throw new EquipoiseError('internal', `${this.name}: ${request.op}: ${reply.error}`);
    return reply;
  }

  /** Ends the process and waits for it. */
  async close(): Promise<void> {
    if (this.#child.exitCode !== null) return;
    const ended = new Promise((resolve) => this.#child.once('exit', resolve));
    this.#child.stdin.end();
    await ended;
  }
}
