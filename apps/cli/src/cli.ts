/** The program: finds the command, validates its options, runs it, and turns errors into exit statuses. */
import {
  createProgress,
  EquipoiseError,
  type ErrorCode,
  formatError,
  invalid,
  isCancelled,
  nearest,
  type ProgressListener,
} from '@equipoise/core';
import { parseWords, setApart } from './arguments.js';
import type { Command, CommandContext, CommandEntry, CommandIo } from './command.js';
import { commands as allCommands } from './commands/index.js';
import { commandHelp, programHelp } from './help.js';
import { StopRequest, untilStopped } from './stop.js';
import { programVersion } from './version.js';

/** Exit statuses, so that scripts can tell a mistake from a failure. */
const EXIT: Partial<Record<ErrorCode, number>> = {
  invalid: 2,
  unsupported: 2,
  missing: 3,
  corrupt: 4,
  unsafe: 4,
  busy: 5,
  conflict: 5,
  cancelled: 130,
};

export interface CliEnvironment extends CommandIo {
  readonly signal: AbortSignal;
  /** Time that a command has to stop in, once it is asked to. */
  readonly graceMs?: number;
  readonly commands?: Readonly<Record<string, CommandEntry>>;
  /** Hears of progress beside the terminal. */
  readonly onProgress?: ProgressListener;
}

/** Runs one command line (the words after `equipoise`) and gives the exit status. Never throws. */
export async function runCli(argv: readonly string[], environment: CliEnvironment): Promise<number> {
  try {
    return await dispatch(argv, environment);
  } catch (error) {
    environment.note(`equipoise: ${formatError(withMemoryHint(error))}`);
    const { reason } = environment.signal;
    if (isCancelled(error)) return reason instanceof StopRequest ? reason.status : 130;
    return (error instanceof EquipoiseError && EXIT[error.code]) || 1;
  }
}

/** An allocation that the engine refuses is no mistake of this program: what to do about it in place of a stack. */
function withMemoryHint(error: unknown): unknown {
  if (!(error instanceof RangeError && / exceeds the memory limit of /.test(error.message))) return error;
  return new EquipoiseError('io', error.message, {
    cause: error,
    hints: [
      'Smaller batches or pictures and --precision bf16 take less, tuning also with --gradient-checkpointing.',
      'equipoise doctor shows the limit.',
    ],
  });
}

async function dispatch(argv: readonly string[], environment: CliEnvironment): Promise<number> {
  const { commands = allCommands, print } = environment;
  const [name, ...words] = argv;
  if (name === undefined || name === '--help' || name === '-h' || name === 'help') {
    if (name === 'help' && words.length > 0) return dispatch([...words, '--help'], environment);
    print(programHelp(commands));
    return name === undefined ? 2 : 0;
  }
  if (name === '--version' || name === '-V') {
    print(programVersion());
    return 0;
  }
  // Commands of a family have two words: `mi sweep`.
  const two = `${name} ${words[0] ?? ''}`;
  if (Object.hasOwn(commands, two))
    return runCommand(two, commands[two] as CommandEntry, words.slice(1), argv, environment);
  const family = Object.entries(commands).filter(([command]) => command.startsWith(`${name} `));
  const [next] = words;
  if (family.length > 0 && (next === undefined || next === '--help' || next === '-h')) {
    print(programHelp(Object.fromEntries(family), name));
    return next === undefined ? 2 : 0;
  }
  if (!Object.hasOwn(commands, name)) throw unknownCommand(name, next, Object.keys(commands));
  return runCommand(name, commands[name] as CommandEntry, words, argv, environment);
}

async function runCommand(
  name: string,
  entry: CommandEntry,
  given: readonly string[],
  argv: readonly string[],
  environment: CliEnvironment,
): Promise<number> {
  const { signal, print, note } = environment;
  const command = await entry.load();
  const words = command.passesOn === true ? setApart(given, command.options.list()) : given;
  const end = words.indexOf('--');
  const flags = end < 0 ? words : words.slice(0, end);
  if (flags.includes('--help') || flags.includes('-h')) {
    print(commandHelp(name, command));
    return 0;
  }
  const values = command.options.parseText(
    parseWords(words, command.options.list(), command.positionals ?? []),
  );
  // Only commands that compute have devices, and they have loaded the engine already.
  const options =
    values.device === undefined ? values : (await import('./engine-options.js')).withDevice(values);
  const progress = createProgress(note);
  try {
    const onProgress: ProgressListener = (event) => {
      environment.onProgress?.(event);
      progress.onProgress(event);
    };
    const runWords: CommandContext['runWords'] = (others, listener) =>
      dispatch(others, { ...environment, onProgress: listener });
    const work = command.run(options, { print, note, signal, argv, onProgress, runWords });
    const onRequest = (): void => {
      progress.end();
      note('equipoise: stopping; once more stops at once');
    };
    return await untilStopped(work, signal, onRequest, environment.graceMs);
  } catch (error) {
    throw isCancelled(error) ? stopped(signal, command, error) : error;
  } finally {
    progress.end();
  }
}

/** What a user is told who stopped a command. */
function stopped({ reason }: AbortSignal, { stopped: hint }: Command, error: unknown): EquipoiseError {
  const message = reason instanceof Error ? reason.message : 'cancelled';
  const inner = error instanceof EquipoiseError ? error.hints : [];
  return new EquipoiseError('cancelled', message, {
    cause: error,
    hints: hint === undefined ? inner : [hint],
  });
}

function unknownCommand(name: string, next: string | undefined, known: string[]): EquipoiseError {
  const family = known.filter((command) => command.startsWith(`${name} `));
  if (family.length > 0)
    return invalid('command', `one of ${family.join(', ')}`, `${name} ${next ?? ''}`.trimEnd());
  const closest = nearest(name, known);
  const hint = closest === undefined ? 'equipoise --help lists the commands.' : `Did you mean ${closest}?`;
  return invalid('command', `one of ${known.join(', ')}`, name, { hints: [hint] });
}
