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

/** RFC 4180, full precision. */
export function toCsv({ columns, rows }: Table): string {
  const quote = (cell: Cell): string => {
    const text = cell === null ? '' : String(cell);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return `${[columns, ...rows].map((row) => row.map(quote).join(',')).join('\r\n')}\r\n`;
}

export function toMarkdown({ columns, rows, note }: Table): string {
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((c) => c.replaceAll('|', '\\|')).join(' | ')} |`;
  const body = [
    line(columns),
    line(columns.map(() => '---')),
    ...rows.map((row) => line(row.map(formatCell))),
  ];
  return `${body.join('\n')}\n${note === undefined ? '' : `\n${note}\n`}`;
}
