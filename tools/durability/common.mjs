/** What the programs that kill long jobs share. */
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';

/**
 * Reads the command line's options, all of them positive integers.
 * @template {string} Name
 * @param {Record<Name, number>} defaults
 * @returns {Record<Name, number>}
 */
export function settings(defaults) {
  const options = Object.entries(defaults).map(([name, value]) => [
    name,
    { type: 'string', default: `${value}` },
  ]);
  const { values } = parseArgs({ options: Object.fromEntries(options) });
  return Object.fromEntries(
    Object.entries(values).map(([name, value]) => {
      const number = Number(value);
      if (!Number.isInteger(number) || number < 1)
        throw new TypeError(`--${name}: expected a positive integer, got ${value}`);
      return [name, number];
    }),
  );
}

/**
 * Runs Node.js with these arguments and kills it after `limit` milliseconds where one is given.
 * @param {readonly string[]} args
 * @param {number} [limit]
 * @returns {Promise<boolean>} whether it ended by itself
 * @throws Error when it fails
 */
export function endsByItself(args, limit) {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'pipe'] });
    let errors = '';
    child.stderr.on('data', (data) => {
      errors = `${errors}${data}`.slice(-4000);
    });
    const timer = limit === undefined ? undefined : setTimeout(() => child.kill('SIGKILL'), limit);
    child.on('error', reject);
    child.on('close', (status, signal) => {
      clearTimeout(timer);
      if (signal === 'SIGKILL') resolve(false);
      else if (status === 0) resolve(true);
      else reject(new Error(`${args.join(' ')}: ended with ${status ?? signal}\n${errors}`));
    });
  });
}

/**
 * Sets the exit code to 1 unless `work` resolves to true; its folder is removed afterwards.
 * @param {(folder: string) => Promise<boolean>} work
 */
export async function judge(work) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'equipoise-kill-'));
  try {
    process.exitCode = (await work(folder)) ? 0 : 1;
  } finally {
    fs.rmSync(folder, { recursive: true, force: true });
  }
}
