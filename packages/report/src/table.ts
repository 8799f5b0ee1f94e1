/** A table of results: the same rows as HTML, CSV, JSON and Markdown. */
import { invalid } from '@equipoise/core';

export type Cell = string | number | boolean | null;

export interface Table {
  readonly title: string;
  readonly columns: readonly string[];
  readonly rows: readonly (readonly Cell[])[];
  /** One sentence under the table: what was measured, on what, how often. */
  readonly note?: string;
}

/** Builds a table from records; the columns are those of the first. */
export function tableOf(
  title: string,
  records: readonly Readonly<Record<string, Cell>>[],
  note?: string,
): Table {
  const columns = Object.keys(records[0] ?? {});
  const rows = records.map((record, i) => {
    const keys = Object.keys(record);
    if (keys.length !== columns.length || columns.some((column) => !(column in record))) {
      throw invalid(`${title}: record ${i}`, `columns ${columns.join(', ')}`, keys);
    }
    return columns.map((column) => record[column] as Cell);
  });
  return { title, columns, rows, ...(note !== undefined && { note }) };
}

/** Four significant digits; integers whole. */
export function formatCell(cell: Cell): string {
  if (cell === null) return '–';
  if (typeof cell === 'number')
    return Number.isInteger(cell)
      ? String(cell)
      : Number.isFinite(cell)
        ? String(Number(cell.toPrecision(4)))
        : String(cell);
  return String(cell);
}

export interface CsvOptions {
  /**
   * For files that people open in a spreadsheet: text that it would take for a formula gets an apostrophe in front.
   * Programs then read that apostrophe, too. Default false.
   */
  readonly guardFormulas?: boolean;
}

/** RFC 4180, full precision. */
export function toCsv({ columns, rows }: Table, { guardFormulas = false }: CsvOptions = {}): string {
  const quote = (cell: Cell): string => {
    const plain = cell === null ? '' : String(cell);
    const text = guardFormulas && typeof cell === 'string' && /^[=+\-@\t\r]/.test(cell) ? `'${plain}` : plain;
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return `${[columns, ...rows].map((row) => row.map(quote).join(',')).join('\r\n')}\r\n`;
}

/** A Markdown table; one without columns, as of no records, is the words "no rows". */
export function toMarkdown({ columns, rows, note }: Table): string {
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((c) => c.replaceAll('|', '\\|').replace(/[\r\n]+/g, ' ')).join(' | ')} |`;
  const body =
    columns.length === 0
      ? ['no rows']
      : [line(columns), line(columns.map(() => '---')), ...rows.map((row) => line(row.map(formatCell)))];
  return `${body.join('\n')}\n${note === undefined ? '' : `\n${note}\n`}`;
}
