/** Help texts, made from the command table and the option schemas. */
import { kebabCase, type OptionInfo } from '@equipoise/core';
import type { Command, CommandEntry } from './command.js';

const WIDTH = 100;

/** `equipoise --help`, or `equipoise FAMILY --help` with the commands that begin with one word. */
export function programHelp(commands: Readonly<Record<string, CommandEntry>>, family?: string): string {
  const rows = Object.entries(commands).map(([name, entry]) => [name, entry.summary] as const);
  const words = family === undefined ? '<command>' : `${family} <command>`;
  return [
    `Usage: equipoise ${words} [options]`,
    '',
    'Commands:',
    ...table(rows),
    '',
    `equipoise ${words} --help lists a command's options.`,
  ].join('\n');
}

/** `equipoise NAME --help`. */
export function commandHelp(name: string, command: Command): string {
  const options = command.options.list().filter((info) => !info.hidden);
  const positionals = command.positionals ?? [];
  const lines = [
    `Usage: equipoise ${[name, ...positionals.map((key) => place(key, options))].join(' ')} [options]`,
    '',
  ];
  for (const paragraph of command.description.split('\n\n')) lines.push(...wrap(paragraph, WIDTH), '');
  for (const [group, members] of groups(options)) {
    lines.push(`${group}:`, ...table(members.map((info) => [flagText(info), optionText(info)] as const)), '');
  }
  if (command.examples !== undefined && command.examples.length > 0) {
    lines.push('Examples:', ...command.examples.map((example) => `  ${example}`), '');
  }
  return lines.join('\n').trimEnd();
}

function place(key: string, options: readonly OptionInfo[]): string {
  const info = options.find((candidate) => candidate.key === key);
  const text = `${kebabCase(key)}${info?.kind.type === 'array' ? '...' : ''}`;
  return info?.required ? `<${text}>` : `[${text}]`;
}

function groups(options: readonly OptionInfo[]): Map<string, OptionInfo[]> {
  const all = new Map<string, OptionInfo[]>();
  for (const info of options) {
    const group = info.group ?? 'Options';
    all.set(group, [...(all.get(group) ?? []), info]);
  }
  return all;
}

function flagText(info: OptionInfo): string {
  const short = info.short === undefined ? '' : `-${info.short}, `;
  // The text says what the option does, which is on by default: one that takes it away cannot stand alone before it.
  if (info.kind.type === 'boolean') return `${short}${info.flag.replace(/^--no-/, '--[no-]')}`;
  return `${short}${info.flag} <${info.placeholder?.replace(/^<|>$/g, '') ?? placeholder(info)}>`;
}

function placeholder(info: OptionInfo): string {
  if (info.kind.type === 'array') return 'list';
  if (info.kind.choices !== undefined) return 'name';
  return info.kind.type === 'integer' || info.kind.type === 'number' ? 'n' : 'text';
}

function optionText(info: OptionInfo): string {
  const notes: string[] = [];
  if (info.kind.type !== 'boolean' && info.expected !== 'text') notes.push(info.expected);
  if (info.required) notes.push('required');
  else if (info.default !== undefined && info.kind.type !== 'boolean')
    notes.push(`default ${JSON.stringify(info.default)}`);
  else if (info.default === true) notes.push('on by default');
  return notes.length === 0 ? info.description : `${info.description} (${notes.join('; ')})`;
}

/** Two columns; the second is wrapped. */
function table(rows: ReadonlyArray<readonly [string, string]>): string[] {
  const left = Math.min(32, Math.max(...rows.map(([name]) => name.length)));
  return rows.flatMap(([name, text]) => {
    const [first = '', ...rest] = wrap(text, WIDTH - left - 4);
    const indent = ' '.repeat(left + 4);
    const head =
      name.length > left ? [`  ${name}`, `${indent}${first}`] : [`  ${name.padEnd(left)}  ${first}`];
    return [...head, ...rest.map((line) => indent + line)];
  });
}

function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(/\s+/)) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line);
      line = '';
    }
    line = line === '' ? word : `${line} ${word}`;
  }
  return line === '' ? lines : [...lines, line];
}
