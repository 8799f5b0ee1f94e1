// Compares what two runs of `equipoise showcase` printed: values agree that lie within each other's confidence
// intervals; those without an interval, within a tenth. Usage: node tools/gpu/compare-tables.mjs CPU.json CUDA.json
import fs from 'node:fs';

const [cpu, cuda] = process.argv.slice(2, 4).map((file) => {
  const text = fs.readFileSync(file, 'utf8');
  return JSON.parse(text.slice(text.indexOf('{')));
});
if (!cpu || !cuda) throw new Error('usage: compare-tables.mjs CPU.json CUDA.json');

const rows = [];
const within = (x, { low, high }) => x >= low - 1e-9 && x <= high + 1e-9;

for (const [name, a] of Object.entries(cpu.right)) {
  const b = cuda.right[name];
  rows.push({
    name: `right, ${name}`,
    a: a.value,
    b: b?.value,
    ok: b !== undefined && (within(b.value, a) || within(a.value, b)),
  });
}
for (const [name, a] of Object.entries(cpu.kl)) {
  for (const when of ['before', 'after']) {
    const [x, y] = [a[when], cuda.kl[name]?.[when]];
    rows.push({ name: `divergence of ${name} ${when}`, a: x, b: y, ok: Math.abs(x - y) <= 0.1 });
  }
}
if (rows.length === 0) throw new Error('the runs printed no tables');
for (const { name, a, b, ok } of rows)
  console.log(`${ok ? 'ok    ' : 'DIFFER'} ${name}: ${a?.toFixed(4)} on the CPU, ${b?.toFixed(4)} on CUDA`);
process.exitCode = rows.every(({ ok }) => ok) ? 0 : 1;
