/** What the command-line entries share: arguments in, progress lines and errors out. */
import { parseArgs } from 'node:util';
import {
  formatError,
  type OptionSet,
  type ProgressEvent,
  type ProgressListener,
  type z,
} from '@equipoise/core';

/** Parses `--kebab-case value` arguments by a schema; prints the options and exits on `--help`. */
export function readOptions<F extends Record<string, z.ZodType>>(
  schema: OptionSet<F>,
): ReturnType<OptionSet<F>['parse']> {
  const infos = schema.list();
  const flags = Object.fromEntries(
    infos.map((info) => [
      info.flag.slice(2),
      { type: info.kind.type === 'boolean' ? 'boolean' : 'string' } as const,
    ]),
  );
  const parsed = parseArgs({ options: { ...flags, help: { type: 'boolean' } }, strict: true });
  const values = parsed.values as Record<string, string | boolean | undefined>;
  if (values.help) {
    const lines = infos.map(
      (info) =>
        `  ${info.flag.padEnd(14)} ${info.description}${info.default === undefined ? '' : ` Default: ${String(info.default)}.`}`,
    );
    console.log(`${schema.name}\n\n${lines.join('\n')}`);
    process.exit(0);
  }
  const given = Object.fromEntries(infos.map((info) => [info.key, values[info.flag.slice(2)]]));
  return schema.parseText(given);
}

const INTERVAL_MS = 5_000;

/** Prints at most one line per task every five seconds, and the last one. */
export function progressPrinter(): ProgressListener {
  let [task, printed, started, first] = ['', 0, 0, 0];
  return (event: ProgressEvent) => {
    const now = Date.now();
    if (event.task !== task) [task, printed, started, first] = [event.task, 0, now, event.done];
    if (now - printed < INTERVAL_MS && event.done !== event.total) return;
    printed = now;
    const rate = (event.done - first) / Math.max(1e-3, (now - started) / 1000);
    const values = Object.entries(event.values ?? {}).map(
      ([name, value]) => `${name} ${typeof value === 'number' ? Number(value.toPrecision(4)) : value}`,
    );
    console.error(
      [
        `${event.task} ${event.done}/${event.total ?? '?'} ${event.unit ?? ''}`,
        ...values,
        `${rate.toPrecision(3)}/s`,
      ].join('  '),
    );
  };
}

/** Runs a command's body; errors are printed with their hints and set the exit code. */
export async function runMain(body: () => Promise<void>): Promise<void> {
  try {
    await body();
  } catch (error) {
    console.error(formatError(error));
    process.exitCode = 1;
  }
}
