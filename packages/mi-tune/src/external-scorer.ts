/**
 * A scorer that is another program: the way to BLIP-VQA, HPSv2 or a model of one's own. The program gets the path of a
 * file with a line `{"image": "/path/0.png", "prompt": "..."}` for each pair as its last argument and prints one number
 * per line, in the same order, to standard output.
 */
import { spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { EquipoiseError, invalid, prose, sha256Json } from '@equipoise/core';
import { encodePng } from '@equipoise/diffusion';
import type { AlignmentScorer } from './scorer.js';

/**
 * @param name column of the tables
 * @param command program and arguments
 */
export function externalScorer(name: string, command: readonly string[]): AlignmentScorer {
  if (command.length === 0) throw invalid(`scorer ${name}`, 'a program', command);
  return {
    name,
    hash: sha256Json(command),
    async score(images, prompts, context) {
      const folder = await mkdtemp(join(tmpdir(), 'equipoise-scorer-'));
      try {
        const lines: string[] = [];
        for (const [i, image] of images.entries()) {
          const file = join(folder, `${i}.png`);
          await writeFile(file, await encodePng(image));
          lines.push(JSON.stringify({ image: file, prompt: prompts[i] }));
        }
        const list = join(folder, 'pairs.jsonl');
        await writeFile(list, `${lines.join('\n')}\n`);
        const output = await run(name, [...command, list], context?.signal);
        return parseScores(name, output, images.length);
      } finally {
        await rm(folder, { recursive: true, force: true });
      }
    },
  };
}

function run(name: string, [program, ...args]: readonly string[], signal?: AbortSignal): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(program as string, args, {
      stdio: ['ignore', 'pipe', 'pipe'],
      ...(signal !== undefined && { signal }),
    });
    let [output, errors] = ['', ''];
    child.stdout.on('data', (data: Buffer) => {
      output += data.toString('utf8');
    });
    child.stderr.on('data', (data: Buffer) => {
      errors = (errors + data.toString('utf8')).slice(-2000);
    });
    child.on('error', (cause) => {
      const cancelled = signal?.aborted === true;
      reject(
        new EquipoiseError(
          cancelled ? 'cancelled' : 'io',
          `scorer ${name}: ${cancelled ? 'cancelled' : `cannot run ${program}: ${cause.message}`}`,
          { cause },
        ),
      );
    });
    child.on('close', (status, killed) => {
      if (status === 0) resolve(output);
      else
        reject(
          new EquipoiseError('io', `scorer ${name}: ${program} ended with ${killed ?? `status ${status}`}`, {
            hints: errors.trim() === '' ? [] : [errors.trim()],
          }),
        );
    });
  });
}

function parseScores(name: string, output: string, count: number): number[] {
  const lines = output.split(/\r?\n/).filter((line) => line.trim() !== '');
  if (lines.length !== count)
    throw invalid(`scorer ${name}`, `${count} numbers, one per line`, prose(`${lines.length} lines`));
  return lines.map((line, i) => {
    const value = Number(line);
    if (Number.isFinite(value)) return value;
    throw invalid(`scorer ${name}: line ${i + 1}`, 'a finite number', line);
  });
}
