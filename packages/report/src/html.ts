/** A self-contained report: one HTML file with its pictures, plots and tables inside; nothing is fetched. */
import fs from 'node:fs';
import path from 'node:path';
import { type JsonValue, writeFileAtomic, writeJsonAtomic } from '@equipoise/core';
import { formatCell, type Table, toCsv } from './table.js';

export interface ReportImage {
  readonly png: Uint8Array;
  readonly caption: string;
}

export type Block =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'table'; readonly table: Table }
  /** SVG from the plot functions. */
  | { readonly kind: 'plot'; readonly title: string; readonly svg: string }
  | { readonly kind: 'images'; readonly title: string; readonly images: readonly ReportImage[] }
  /** Folded away: settings, logs. */
  | { readonly kind: 'details'; readonly title: string; readonly text: string };

export interface Section {
  readonly title: string;
  readonly blocks: readonly Block[];
}

export interface Report {
  readonly title: string;
  /** One or two sentences that a reader who stops here should have read. */
  readonly summary: string;
  readonly sections: readonly Section[];
}

export function escapeHtml(text: string): string {
  return text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;');
}

const STYLE = `
body { font: 15px/1.5 system-ui, sans-serif; color: #1c2530; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: .2rem } h2 { border-bottom: 1px solid #d5dbe3; padding-bottom: .2rem; margin-top: 2.2rem }
table { border-collapse: collapse; margin: .6rem 0 } th, td { padding: .25rem .7rem; border-bottom: 1px solid #e4e8ee; text-align: right }
th.text, td.text { text-align: left } th { background: #f5f7fa } caption { text-align: left; font-weight: 600; padding: .3rem 0 }
.note { color: #5b6775; font-size: .9em } .plots, .images { display: flex; flex-wrap: wrap; gap: 1rem }
figure { margin: 0 } figcaption { font-size: .85em; color: #5b6775; max-width: 20rem } .images img { image-rendering: pixelated; min-width: 128px }
pre { background: #f5f7fa; padding: .7rem; overflow: auto } .summary { font-size: 1.1em }
`;

function renderTable(table: Table): string {
  // Numbers are read by their last digit, words by their first letter.
  const align = table.columns.map((_, c) =>
    table.rows.some((row) => typeof row[c] === 'string') ? ' class="text"' : '',
  );
  const cells = (tag: 'th' | 'td', texts: readonly string[]): string =>
    `<tr>${texts.map((text, c) => `<${tag}${align[c]}>${escapeHtml(text)}</${tag}>`).join('')}</tr>`;
  const head = cells('th', table.columns);
  const body = table.rows.map((row) => cells('td', row.map(formatCell))).join('\n');
  const note = table.note === undefined ? '' : `<p class="note">${escapeHtml(table.note)}</p>`;
  return `<table><caption>${escapeHtml(table.title)}</caption><thead>${head}</thead><tbody>${body}</tbody></table>${note}`;
}

function renderBlock(block: Block): string {
  switch (block.kind) {
    case 'text':
      return `<p>${escapeHtml(block.text)}</p>`;
    case 'table':
      return renderTable(block.table);
    case 'plot':
      return `<figure><figcaption>${escapeHtml(block.title)}</figcaption>${block.svg}</figure>`;
    case 'images': {
      const images = block.images.map(({ png, caption }) => {
        const data = Buffer.from(png.buffer, png.byteOffset, png.byteLength).toString('base64');
        return `<figure><img alt="${escapeHtml(caption)}" src="data:image/png;base64,${data}"><figcaption>${escapeHtml(caption)}</figcaption></figure>`;
      });
      return `<h3>${escapeHtml(block.title)}</h3><div class="images">${images.join('\n')}</div>`;
    }
    case 'details':
      return `<details><summary>${escapeHtml(block.title)}</summary><pre>${escapeHtml(block.text)}</pre></details>`;
  }
}

/** The report as one HTML document. */
export function renderReport(report: Report): string {
  const sections = report.sections.map(
    ({ title, blocks }) =>
      `<section><h2>${escapeHtml(title)}</h2>\n${blocks.map(renderBlock).join('\n')}</section>`,
  );
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>${escapeHtml(report.title)}</title><style>${STYLE}</style></head>
<body><h1>${escapeHtml(report.title)}</h1><p class="summary">${escapeHtml(report.summary)}</p>
${sections.join('\n')}
</body></html>
`;
}

/**
 * Writes `report.html`, and the same numbers as `report.json` and one CSV per table under `tables/`, each atomically. CSV
 * files of an earlier report in the folder are removed.
 *
 * @returns the path of the HTML file
 */
export async function writeReport(folder: string, report: Report): Promise<string> {
  const tables = report.sections.flatMap(({ title, blocks }) =>
    blocks.flatMap((b) => (b.kind === 'table' ? [{ section: title, ...b.table }] : [])),
  );
  fs.mkdirSync(path.join(folder, 'tables'), { recursive: true });
  const html = path.join(folder, 'report.html');
  await writeFileAtomic(html, renderReport(report));
  // JSON has no NaN: a number that could not be measured becomes null.
  const finite = tables.map((table) => ({
    ...table,
    rows: table.rows.map((row) =>
      row.map((cell) => (typeof cell === 'number' && !Number.isFinite(cell) ? null : cell)),
    ),
  }));
  await writeJsonAtomic(path.join(folder, 'report.json'), {
    title: report.title,
    summary: report.summary,
    tables: finite,
  } as unknown as JsonValue);
  const names = tables.map(({ title }, i) => csvName(title, i));
  for (const [i, table] of tables.entries())
    await writeFileAtomic(
      path.join(folder, 'tables', names[i] as string),
      toCsv(table, { guardFormulas: true }),
    );
  for (const name of fs.readdirSync(path.join(folder, 'tables')))
    if (CSV_NAME.test(name) && !names.includes(name)) fs.rmSync(path.join(folder, 'tables', name));
  return html;
}

/** What {@link csvName} makes. */
const CSV_NAME = /^\d{2,}-[a-z0-9-]*\.csv$/;

function csvName(title: string, index: number): string {
  const slug = title
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-|-$/g, '')
    .slice(0, 60);
  return `${String(index + 1).padStart(2, '0')}-${slug}.csv`;
}
