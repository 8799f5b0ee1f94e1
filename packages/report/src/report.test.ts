import fs from 'node:fs';
import path from 'node:path';
import { parseHTML } from 'linkedom';
import t from 'tap';
import {
  barChart,
  lineChart,
  maskedCrc32c,
  renderReport,
  TensorBoardWriter,
  tableOf,
  toCsv,
  toMarkdown,
  writeReport,
} from './index.js';

const table = tableOf('KL to uniform', [
  { prompt: 'plain, "quoted"', kl: 0.123456, n: 100 },
  { prompt: '<b>', kl: Number.NaN, n: 7 },
]);

t.test('one table as CSV and Markdown', (t) => {
  t.equal(toCsv(table), 'prompt,kl,n\r\n"plain, ""quoted""",0.123456,100\r\n<b>,NaN,7\r\n');
  t.match(toMarkdown(table), '| plain, "quoted" | 0.1235 | 100 |');
  t.throws(() => tableOf('x', [{ a: 1 }, { b: 2 }]), /record 1: expected columns a/);
  t.equal(toMarkdown(tableOf('x', [])), 'no rows\n');
  const odd = { title: 'x', columns: ['a|b'], rows: [['c\r\n|d']] };
  t.equal(toMarkdown(odd), '| a\\|b |\n| --- |\n| c \\|d |\n');
  t.equal(toCsv(odd), 'a|b\r\n"c\r\n|d"\r\n');
  t.end();
});

t.test('text that a spreadsheet would run is guarded on demand, numbers never', (t) => {
  const cells = ['=cmd|calc', '+1', '-1', '@x', '\t=1', 'a=b', '"=1"', -1, null, true];
  const formulas = { title: 'x', columns: ['=c', ...cells.slice(1).map((_, i) => `${i}`)], rows: [cells] };
  t.equal(toCsv(formulas).split('\r\n')[1], '=cmd|calc,+1,-1,@x,\t=1,a=b,"""=1""",-1,,true');
  const [head, row] = toCsv(formulas, { guardFormulas: true }).split('\r\n');
  t.match(head, /^'=c,/);
  t.equal(row, `'=cmd|calc,'+1,'-1,'@x,'\t=1,a=b,"""=1""",-1,,true`);
  t.end();
});

t.test('plots are SVG with their data in them', (t) => {
  const line = lineChart(
    [
      { x: 0, y: 1, series: 'loss' },
      { x: 1, y: Number.NaN, series: 'loss' },
      { x: 2, y: 0.5, series: 'loss' },
    ],
    { x: 'step', y: 'loss' },
  );
  t.match(line, /<svg[^>]*xmlns/);
  t.match(line, /<path[^>]+d="M[\d.]+,[\d.]+L[\d.]+,[\d.]+"/);
  const bars = barChart(
    [
      { category: 'a', value: 1, series: 's' },
      { category: 'b', value: 2, series: 's' },
    ],
    { x: 'class', y: 'share', reference: 0.5 },
  );
  t.equal((bars.match(/<rect/g) ?? []).length >= 2, true);
  t.end();
});

t.test('plots of nothing, of one point and of numbers that are not finite', (t) => {
  const labels = { x: 'x', y: 'y' };
  const lost = { x: 1, y: Number.NaN, series: 'lost' };
  for (const svg of [
    lineChart([], labels),
    lineChart([lost], labels),
    lineChart([{ x: 1, y: 0, series: 'zero' }], { ...labels, logY: true }),
    barChart([], labels),
    barChart([{ category: 'a', value: Number.NaN, series: 's' }], labels),
  ]) {
    t.match(svg, /<svg[^>]*xmlns/);
    t.notMatch(svg, /NaN|Infinity|undefined/);
  }
  t.match(lineChart([{ x: 1, y: 1, series: 'one' }], labels), /<path[^>]+d="M/);
  const warned = t.capture(console, 'warn');
  lineChart(
    ['a', 'b', 'c', 'd'].map((series, x) => ({ x, y: x, series })),
    labels,
  );
  t.same(warned(), [], 'many series of one point');
  t.match(
    lineChart([lost, { x: 0, y: 1, series: 'kept' }], labels),
    /lost[\s\S]*kept/,
    'named in the legend',
  );
  t.end();
});

t.test('no text becomes markup, wherever it stands', (t) => {
  const evil = `</script></style><img src="x" onerror='alert(1)'>&"`;
  const point = { x: 0, y: 1, series: evil };
  const plots = [
    lineChart([point, { ...point, x: 1 }], { x: evil, y: evil }),
    barChart([{ category: evil, value: 1, series: evil }], { x: evil, y: evil }),
  ];
  const html = renderReport({
    title: evil,
    summary: evil,
    sections: [
      {
        title: evil,
        blocks: [
          { kind: 'text', text: evil },
          { kind: 'details', title: evil, text: evil },
          { kind: 'table', table: { title: evil, columns: [evil], rows: [[evil]], note: evil } },
          { kind: 'images', title: evil, images: [{ png: Uint8Array.of(1), caption: evil }] },
          ...plots.map((svg) => ({ kind: 'plot' as const, title: evil, svg })),
        ],
      },
    ],
  });
  const { document } = parseHTML(html);
  t.equal(document.querySelectorAll('script').length, 0);
  t.equal(document.querySelectorAll('img').length, 1, 'the picture of the report alone');
  t.match(document.querySelector('img')?.getAttribute('src'), /^data:image\/png;base64,/);
  t.equal(document.querySelectorAll('[onerror]').length, 0, 'not within a tag either');
  for (const place of ['h1', 'h2', 'h3', 'p', 'td', 'th', 'caption', 'figcaption', 'summary', 'pre', '.note'])
    t.equal(document.querySelector(place)?.textContent, evil, place);
  t.end();
});

t.test('a report is one file that fetches nothing, with JSON and CSV beside it', async (t) => {
  const folder = t.testdir();
  const report = {
    title: 'A & B',
    summary: 'Short.',
    sections: [
      {
        title: 'Results',
        blocks: [
          { kind: 'table' as const, table },
          {
            kind: 'images' as const,
            title: 'Grid',
            images: [{ png: Uint8Array.of(1, 2, 3), caption: '<script>' }],
          },
        ],
      },
    ],
  };
  const html = fs.readFileSync(await writeReport(folder, report), 'utf8');
  t.match(html, '<h1>A &amp; B</h1>');
  t.match(html, 'data:image/png;base64,AQID');
  t.notMatch(html, /<script|https?:\/\/(?!www\.w3\.org)/);
  t.equal(renderReport(report), html);
  t.match(
    html,
    '<td class="text">&lt;b&gt;</td><td>NaN</td><td>7</td>',
    'words to the left, numbers to the right',
  );
  const json = JSON.parse(fs.readFileSync(path.join(folder, 'report.json'), 'utf8'));
  t.same(json.tables[0].rows, [
    ['plain, "quoted"', 0.123456, 100],
    ['<b>', null, 7],
  ]);
  t.same(fs.readdirSync(path.join(folder, 'tables')), ['01-kl-to-uniform.csv']);

  fs.writeFileSync(path.join(folder, 'tables', 'my own.csv'), 'x');
  const renamed = { kind: 'table' as const, table: { ...table, title: 'Other' } };
  await writeReport(folder, { ...report, sections: [{ title: 'Results', blocks: [renamed] }] });
  t.same(
    fs.readdirSync(path.join(folder, 'tables')),
    ['01-other.csv', 'my own.csv'],
    'none of an earlier report',
  );
});

t.test('TensorBoard records carry lengths, checksums and values', (t) => {
  // CRC-32C of 32 zero bytes is 8a9136aa (RFC 3720, B.4); masked as TFRecord does.
  t.equal(
    maskedCrc32c(new Uint8Array(32)),
    ((((0x8a9136aa >>> 15) | (0x8a9136aa << 17)) >>> 0) + 0xa282ead8) % 2 ** 32,
  );
  const folder = t.testdir();
  const writer = new TensorBoardWriter(folder);
  writer.scalars(300, { 'loss/total': 0.25 });
  const bytes = fs.readFileSync(writer.file);
  const records: Buffer[] = [];
  for (let at = 0; at < bytes.length; ) {
    const length = Number(bytes.readBigUInt64LE(at));
    t.equal(bytes.readUInt32LE(at + 8), maskedCrc32c(bytes.subarray(at, at + 8)));
    const data = bytes.subarray(at + 12, at + 12 + length);
    t.equal(bytes.readUInt32LE(at + 12 + length), maskedCrc32c(data));
    records.push(data);
    at += 16 + length;
  }
  t.equal(records.length, 2);
  t.match(records[0]?.toString('latin1'), 'brain.Event:2');
  const step = Buffer.from([0x10, 0xac, 0x02]);
  t.ok(records[1]?.includes(step));
  t.ok(
    records[1]?.includes(Buffer.concat([Buffer.from('loss/total'), Buffer.from([0x15, 0, 0, 0x80, 0x3e])])),
  );
  t.end();
});
