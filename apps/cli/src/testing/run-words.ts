/** Runs command lines in this process, and keeps what they print. */
import { runCli } from '../cli.js';
import type { Inspection } from '../commands/inspect-report.js';

/** @param words what follows `equipoise` */
export async function run(...words: string[]): Promise<{ status: number; out: string; err: string }> {
  const out: string[] = [];
  const err: string[] = [];
  const io = { print: (line: string) => void out.push(line), note: (line: string) => void err.push(line) };
  const status = await runCli(words, { ...io, signal: new AbortController().signal });
  return { status, out: out.join('\n'), err: err.join('\n') };
}

/** The report of `equipoise inspect --json`. */
export async function inspect(...words: string[]): Promise<Inspection & { status: number }> {
  const { status, out, err } = await run('inspect', ...words, '--json');
  if (out === '') throw new Error(err);
  return { ...(JSON.parse(out) as Inspection), status };
}
