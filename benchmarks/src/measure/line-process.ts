/** A child process that answers JSON requests: one a line in, one answer a line out, `{"error": text}` for failures. */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import readline from 'node:readline';
import { EquipoiseError } from '@equipoise/core';

export class LineProcess {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #lines: AsyncIterator<string>;
  #errors = '';

  /** @param name what errors call it */
  constructor(
    readonly name: string,
    command: string,
    args: readonly string[],
  ) {
    this.#child = spawn(command, args, { stdio: 'pipe' });
    this.#child.stderr.on('data', (chunk: Buffer) => {
      this.#errors = (this.#errors + chunk.toString()).slice(-4000);
    });
    // Writing to a process that has ended: that it did is told where its answer is missing.
    this.#child.stdin.on('error', () => undefined);
    this.#child.on('error', (error) => {
      this.#errors += error.message;
    });
    this.#lines = readline.createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
  }

  /** @throws EquipoiseError when the request fails or the process ends */
  async ask<T extends object>(request: object): Promise<T> {
    this.#child.stdin.write(`${JSON.stringify(request)}\n`);
    const { value, done } = await this.#lines.next();
    if (done) throw new EquipoiseError('internal', `${this.name} ended: ${this.#errors.trim()}`);
    const reply = JSON.parse(value) as T & { error?: string };
    if (reply.error !== undefined) throw new EquipoiseError('internal', `${this.name}: ${reply.error}`);
    return reply;
  }

  /** Ends the process and waits for it. */
  async close(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null || this.#child.pid === undefined)
      return;
    const ended = new Promise((resolve) => this.#child.once('exit', resolve));
    this.#child.stdin.end();
    await ended;
  }

  /** Ends the process, whatever it is at. */
  kill(): void {
    this.#child.kill();
  }
}
