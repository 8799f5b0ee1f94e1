/** The SIMT shim finds what it is there to find: each probe (native/simt/probe.cc) has one mistake. */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { addonCandidates } from './index.js';

const probe = addonCandidates('simt')
  .map((file) => path.join(path.dirname(file), 'simt_probe'))
  .find((file) => fs.existsSync(file));

const FINDINGS: Record<string, RegExp> = {
  sound: /^nothing found$/,
  reads_past_the_end:
    /^Probe \[64\]: block \(0,0,0\), thread \((0|63),0,0\) accessed \d+ bytes into a tensor of 256 bytes$/,
  reads_before_the_start: /accessed \d+ bytes before a tensor of 256 bytes/,
  writes_a_word_too_many: /a kernel wrote outside a tensor of 256 bytes/,
  leaves_a_barrier_out: /y\[\d+\] is NaN/,
  overruns_shared: /thread \((32|63),0,0\) accessed no tensor's memory/,
  waits_for_ever: /waits for ever at|is not in the mask 1 of its exchange/,
  leaves_an_element_out: /y\[9\] is NaN/,
  raises: /^Probe \[64\]: index 5 of 64$/,
};

t.test('mistakes in kernels are found', (t) => {
  if (probe === undefined) throw new Error('simt_probe was not built: run "npm run build:native"');
  for (const [name, expected] of Object.entries(FINDINGS))
    t.match(execFileSync(probe, [name], { encoding: 'utf8' }).trim(), expected, name);
  t.end();
});
