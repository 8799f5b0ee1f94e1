// Starts child.mjs and reads its journal. A child that dies or falls silent is blamed on the spec it was in; another
// one goes on after it.
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const CHILD = fileURLToPath(new URL('./child.mjs', import.meta.url));
const MAX_CHILDREN = 40;

/** A run that could not even begin. */
export class SetupError extends Error {
  name = 'SetupError';
}

/** Follows a growing file of JSON lines. */
class Journal {
  #offset = 0;
  #rest = Buffer.alloc(0);
  constructor(file) {
    this.file = file;
    fs.writeFileSync(file, '');
  }
  /** The entries added since the last call. */
  read() {
    const fd = fs.openSync(this.file, 'r');
    const bytes = Buffer.alloc(fs.fstatSync(fd).size - this.#offset);
    this.#offset += fs.readSync(fd, bytes, 0, bytes.length, this.#offset);
    fs.closeSync(fd);
    const all = Buffer.concat([this.#rest, bytes]);
    const end = all.lastIndexOf(10) + 1;
    this.#rest = all.subarray(end);
    return all
      .toString('utf8', 0, end)
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line));
  }
  /** A child that died may have left half a line. */
  drop() {
    this.#rest = Buffer.alloc(0);
  }
}

/** Runs one child to its end; calls `take` with each journal entry. Resolves to how it ended. */
function runChild(config, folder, journal, hangSeconds, take) {
  const file = path.join(folder, 'config.json');
  fs.writeFileSync(file, JSON.stringify(config));
  const log = fs.openSync(path.join(folder, 'output.log'), 'a');
  const child = spawn(process.execPath, [CHILD, file], { stdio: ['ignore', log, log] });
  fs.closeSync(log);
  let alive = Date.now();
  // Loading the suite takes seconds, in which nothing is journalled.
  let limit = Math.max(hangSeconds, 60);
  let hung = false;
  const drain = () => {
    const entries = journal.read();
    if (entries.length > 0) [alive, limit] = [Date.now(), hangSeconds];
    entries.forEach(take);
  };
  return new Promise((resolve, reject) => {
    const timer = setInterval(() => {
      drain();
      if (Date.now() - alive > limit * 1000) {
        hung = true;
        child.kill('SIGKILL');
      }
    }, 250);
    child.on('error', reject);
    child.on('exit', (code, signal) => {
      clearInterval(timer);
      drain();
      journal.drop();
      resolve({
        hung,
        how: hung ? `silent for ${limit} s` : signal ? `killed by ${signal}` : `exit status ${code}`,
        clean: code === 0,
      });
    });
  });
}

/**
 * Runs the selected specs.
 * @param config what child.mjs needs: backend, module, siblings, suite, scope, grep, skips
 * @returns {Promise<object>} found, results (by key), suiteFailures, ended, gaveUp
 * @throws SetupError when the backend or the suite cannot be loaded
 */
export async function runSuite(config, hangSeconds) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'conformance-'));
  try {
    return await collect(config, folder, hangSeconds);
  } finally {
    fs.rmSync(folder, { recursive: true, force: true });
  }
}

async function collect(config, folder, hangSeconds) {
  const journal = new Journal(path.join(folder, 'journal'));
  const run = {
    found: undefined,
    results: new Map(),
    suiteFailures: [],
    ended: undefined,
    gaveUp: undefined,
  };
  let current;
  let setupError;
  const take = (entry) => {
    if (entry.type === 'found') run.found ??= entry;
    else if (entry.type === 'start') current = entry.key;
    else if (entry.type === 'suite-failure') run.suiteFailures.push(entry);
    else if (entry.type === 'setup-error') setupError = entry.message;
    else if (entry.type === 'end') run.ended = entry;
    else if (entry.type === 'spec') {
      if (!run.results.has(entry.key)) run.results.set(entry.key, entry);
      current = undefined;
    }
  };
  for (let children = 1, idle = 0; !run.ended; children++) {
    const before = run.results.size;
    const { hung, how, clean } = await runChild(
      { ...config, journal: journal.file, done: [...run.results.keys()] },
      folder,
      journal,
      hangSeconds,
      take,
    );
    if (setupError || !run.found) {
      const output = fs.readFileSync(path.join(folder, 'output.log'), 'utf8').slice(-2000);
      throw new SetupError(
        `the suite cannot run: ${setupError ?? `the process ended (${how}) before the specs were loaded`}\n${output}`,
      );
    }
    if (current) {
      run.results.set(current, {
        key: current,
        status: hung ? 'hung' : 'crashed',
        kernels: [],
        missing: [],
        foreign: [],
        failures: [`the process ended in this spec: ${how}`],
      });
      current = undefined;
    } else if (!run.ended || !clean) {
      run.suiteFailures.push({ name: '(process)', missing: [], failures: [`ended outside a spec: ${how}`] });
    }
    idle = run.results.size > before ? 0 : idle + 1;
    if (!run.ended && (idle >= 2 || children >= MAX_CHILDREN)) {
      run.gaveUp = `gave up after ${children} processes (${how})`;
      break;
    }
  }
  return run;
}
