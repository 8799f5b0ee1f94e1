/** Scores of sweeps as tables: Parquet through DuckDB, and SQL over any number of sweeps. */
import { randomBytes } from 'node:crypto';
import { rename, rm } from 'node:fs/promises';
import { basename, dirname, extname, join } from 'node:path';
import type { DuckDBConnection } from '@duckdb/node-api';
import { EquipoiseError, invalid, makeFolder, sha256Json, writeError } from '@equipoise/core';
import { batchNumbers, readSweep, type StoredRow, type StoredSweep } from './sweep-folder.js';

export const PARQUET = 'scores.parquet';

/** SQL text in single quotes. */
const quoted = (text: string): string => `'${text.replaceAll("'", "''")}'`;

/** Runs `work` on a database in memory. */
async function withDatabase<T>(work: (connection: DuckDBConnection) => Promise<T>): Promise<T> {
  const { DuckDBInstance } = await import('@duckdb/node-api');
  const instance = await DuckDBInstance.create(':memory:');
  try {
    const connection = await instance.connect();
    try {
      return await work(connection);
    } finally {
      connection.closeSync();
    }
  } finally {
    instance.closeSync();
  }
}

/** Columns of a sweep's table, with DuckDB's types. */
function columns(scorers: readonly string[]): string {
  const fixed = ['prompt VARCHAR', 'prompt_index INTEGER', 'candidate INTEGER', 'seed BIGINT', 'mi DOUBLE'];
  const keys = ['model VARCHAR', 'adapter VARCHAR', 'options VARCHAR'];
  return [...fixed, ...scorers.map((name) => `${name} DOUBLE`), ...keys].join(', ');
}

/** Hash of all settings that scores depend on, whatever the shard. */
function optionsHash({ record }: StoredSweep): string {
  const { shard: _, batch: __, ...options } = record.options;
  return sha256Json(options).slice(0, 16);
}

async function fill(connection: DuckDBConnection, sweep: StoredSweep): Promise<void> {
  const { plan, prompts, sampling, record, batches } = sweep;
  await connection.run(`CREATE TABLE scores (${columns(plan.scorers)})`);
  const appender = await connection.createAppender('scores');
  const options = optionsHash(sweep);
  for (const b of [...batches.keys()].sort((x, y) => x - y)) {
    for (const row of batches.get(b)?.rows ?? []) {
      const [promptIndex = 0, candidate = 0, ...scores] = row as StoredRow;
      appender.appendVarchar(prompts[promptIndex] as string);
      appender.appendInteger(promptIndex);
      appender.appendInteger(candidate);
      appender.appendBigInt(BigInt(sampling.seed + candidate));
      for (const score of scores) appender.appendDouble(score);
      appender.appendVarchar(record.inputs.model ?? '');
      appender.appendVarchar(record.inputs.adapter ?? '');
      appender.appendVarchar(options);
      appender.endRow();
    }
  }
  appender.closeSync();
}

/** Told that a sweep is not, or no longer, whole. */
export type IncompleteListener = (message: string) => void;

function tellIncomplete({ folder, plan, missing, damaged }: StoredSweep, tell: IncompleteListener): void {
  if (missing.length === 0) return;
  const { length } = batchNumbers(plan);
  const lines = damaged === 1 ? 'line of the journal is' : 'lines of the journal are';
  const why = damaged === 0 ? '' : `; ${damaged} ${lines} damaged`;
  tell(`${folder}: has ${length - missing.length} of ${length} batches so far${why}`);
}

/**
 * Writes the scores that a sweep folder holds so far, atomically: Parquet (zstd), or CSV where the name ends in `.csv`.
 *
 * @param file default: `scores.parquet` in the folder
 * @returns the file
 */
export async function exportScores(
  folder: string,
  file = join(folder, PARQUET),
  onIncomplete: IncompleteListener = () => {},
): Promise<string> {
  const extension = extname(file);
  if (extension !== '.parquet' && extension !== '.csv')
    throw invalid('export file', 'a name ending in .parquet or .csv', file);
  const sweep = await readSweep(folder);
  tellIncomplete(sweep, onIncomplete);
  const temporary = join(
    dirname(file),
    `.${basename(file)}.${process.pid}.${randomBytes(6).toString('hex')}.tmp`,
  );
  const format = extension === '.csv' ? 'FORMAT csv, HEADER' : 'FORMAT parquet, COMPRESSION zstd';
  try {
    await makeFolder(dirname(file));
    await withDatabase(async (connection) => {
      await fill(connection, sweep);
      await connection.run(
        `COPY (SELECT * FROM scores ORDER BY prompt_index, candidate) TO ${quoted(temporary)} (${format})`,
      );
    });
    await rename(temporary, file);
  } catch (error) {
    // The error that led here tells more than a second one.
    await rm(temporary, { force: true }).catch(() => undefined);
    throw tableError(file, error);
  }
  return file;
}

/** Answer to a query: column names and rows of plain values. */
export interface QueryResult {
  readonly columns: readonly string[];
  readonly rows: readonly (readonly (string | number | boolean | null)[])[];
}

/**
 * Runs SQL over the table `scores` of sweeps together: of folders what they hold so far, exported to their Parquet file
 * first, and of Parquet files themselves. Sweeps with other scorers have NULL there.
 *
 * @throws EquipoiseError `invalid` with DuckDB's message when the query is wrong
 */
export async function queryScores(
  sources: readonly string[],
  sql: string,
  onIncomplete: IncompleteListener = () => {},
): Promise<QueryResult> {
  if (sources.length === 0) throw invalid('sweeps', 'at least one sweep folder or Parquet file', sources);
  const files: string[] = [];
  for (const source of sources)
    files.push(extname(source) === '.parquet' ? source : await exportScores(source, undefined, onIncomplete));
  return withDatabase(async (connection) => {
    const list = files.map(quoted).join(', ');
    await connection
      .run(`CREATE VIEW scores AS SELECT * FROM read_parquet([${list}], union_by_name = true)`)
      .catch((cause: unknown) => {
        throw new EquipoiseError('corrupt', `${files.join(', ')}: expected Parquet files: ${text(cause)}`, {
          cause,
        });
      });
    const reader = await connection.runAndReadAll(sql).catch((cause: unknown) => {
      throw new EquipoiseError('invalid', `query: ${text(cause)}`, { cause });
    });
    return { columns: reader.columnNames(), rows: reader.getRows().map((row) => row.map(plain)) };
  });
}

function text(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function plain(value: unknown): string | number | boolean | null {
  if (value === null || typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean')
    return value;
  // 64-bit integers: counts and seeds; beyond 2^53 as text.
  if (typeof value === 'bigint') return Number.isSafeInteger(Number(value)) ? Number(value) : String(value);
  return String(value);
}

/** DuckDB tells of a full disk, and of all else that the system refuses, in words only. */
function tableError(file: string, error: unknown): unknown {
  if (error instanceof EquipoiseError) return error;
  const message = text(error);
  if (
    /^IO Error|no space left|disk quota|file too large|read-only file system|permission denied/i.test(message)
  )
    return new EquipoiseError('io', `${file}: cannot write: ${message}`, { cause: error });
  return writeError(file, error);
}
