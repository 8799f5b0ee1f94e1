/** Entry point of the `equipoise` program. */
import { runCli } from './cli.js';
import { StopRequest } from './stop.js';

const controller = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => {
    const request = new StopRequest(signal);
    // The second time, whoever sends it does not want to wait for a safe point.
    if (controller.signal.aborted) process.exit(request.status);
    controller.abort(request);
  });
}
// A reader that stops early, as `head` does, is no error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
  process.exit(0);
});

process.exitCode = await runCli(process.argv.slice(2), {
  print: (line) => void process.stdout.write(`${line}\n`),
  note: (line) => void process.stderr.write(`${line}\n`),
  signal: controller.signal,
});
// What the engine still computes is of no use to anybody.
if (controller.signal.aborted) process.exit();
