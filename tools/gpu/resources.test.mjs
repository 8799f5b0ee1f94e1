import fs from 'node:fs';
import t from 'tap';
import { BASELINE, growth, parseResources, readResources } from './resources.mjs';

t.test('what ptxas says is read', (t) => {
  const log = `ptxas info    : Compiling entry function 'void eq::f<float>(float*)' for 'sm_80'
ptxas info    : Function properties for void eq::f<float>(float*)
    16 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers, 16 bytes cumulative stack size, 2048 bytes smem, 400 bytes cmem[0]
ptxas info    : Compiling entry function 'void eq::f<float>(float*)' for 'sm_90a'
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 24 registers, used 0 barriers`;
  t.same(parseResources(log), {
    'void eq::f<float>(float*)': {
      sm_80: { registers: 40, stack: 16, spills: 20, shared: 2048 },
      sm_90a: { registers: 24, stack: 0, spills: 0, shared: 0 },
    },
  });
  t.end();
});

t.test('growth names kernels that spill more, and new ones that spill', (t) => {
  const kernel = (spills) => ({ sm_80: { registers: 32, stack: spills, spills, shared: 0 } });
  const before = { files: { 'a/cuda.cu': { f: kernel(8), g: kernel(0) } } };
  t.same(growth(before, before), []);
  t.same(growth(before, { files: { 'a/cuda.cu': { f: kernel(0), h: kernel(0) } } }), []);
  const after = { files: { 'a/cuda.cu': { f: kernel(16), n: kernel(4) }, 'b/cuda.cu': { n: kernel(4) } } };
  t.match(growth(before, after), [
    /a\/cuda.cu: f \(sm_80\) spills 16 bytes, 8 before/,
    /a\/cuda.cu: n .* 4 bytes/,
  ]);
  t.end();
});

const baseline = JSON.parse(fs.readFileSync(BASELINE, 'utf8'));
const current = readResources();
// Another compiler spills elsewhere: its own baseline would have to be taken first.
const skip =
  current.reason ??
  (current.compiler === baseline.compiler
    ? false
    : `the baseline is nvcc ${baseline.compiler}'s, this is ${current.compiler}`);

t.test('CUDA kernels spill no more than the baseline', { skip }, (t) => {
  t.ok(Object.keys(current.files).length >= 30, `${Object.keys(current.files).length} files`);
  t.same(growth(baseline, current), []);
  // A source whose figures were never taken is named, not passed over.
  for (const file of Object.keys(current.files))
    if (baseline.files[file] === undefined)
      t.test(
        `CUDA resources of ${file}`,
        { skip: 'no baseline yet (node tools/gpu/resources.mjs --json FILE)' },
        () => {},
      );
  t.end();
});
