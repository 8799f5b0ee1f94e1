/** What a command is. One file per command under `commands/`; docs/adding-a-command.md walks through one. */
import type { OptionSet, OptionsOf, ProgressListener } from '@equipoise/core';

// biome-ignore lint/suspicious/noExplicitAny: a table of commands holds option sets of all kinds
type AnyOptionSet = OptionSet<any>;

/** How a command talks to the terminal; tests pass their own. */
export interface CommandIo {
  /** Results, one line a call: what a program may read. */
  print(line: string): void;
  /** Everything else a person should see. */
  note(line: string): void;
}

export interface CommandContext extends CommandIo {
  /** Aborted by Ctrl-C and SIGTERM: long jobs stop at the next safe point. */
  readonly signal: AbortSignal;
  /** Draws progress on the terminal. */
  readonly onProgress: ProgressListener;
  /** The words after `equipoise`, for run records. */
  readonly argv: readonly string[];
  /** Runs another command line as if it stood alone, and gives its exit status; its errors are thrown. */
  runWords(words: readonly string[], onProgress: ProgressListener): Promise<number>;
}

/** A command whose options are declared once, as a schema: parsing, refusals and help come from it. */
export interface Command<S extends AnyOptionSet = AnyOptionSet> {
  readonly options: S;
  /** Option keys that may be given by position, in order. A last one that is a list takes all that is left. */
  readonly positionals?: readonly string[];
  /** Its positionals are another command line: from the first of them on, flags are not its own. */
  readonly passesOn?: boolean;
  /** One or two paragraphs for `equipoise NAME --help`. */
  readonly description: string;
  /** Command lines worth showing. */
  readonly examples?: readonly string[];
  /** What to do after it was stopped: said to whom stopped it. */
  readonly stopped?: string;
  /** Does the work and gives the exit status. Errors are thrown, never printed. */
  run(options: OptionsOf<S>, context: CommandContext): Promise<number>;
}

/** {@link Command.stopped} of jobs that own a folder. */
export const GOES_ON = 'Start the same command again: it goes on from what is done.';

/** Declares a command; exists for type inference. */
export function defineCommand<S extends AnyOptionSet>(command: Command<S>): Command<S> {
  return command;
}

/** An entry of the command table: loading is deferred, since most commands pull in the engine. */
export interface CommandEntry {
  readonly summary: string;
  load(): Promise<Command>;
}
