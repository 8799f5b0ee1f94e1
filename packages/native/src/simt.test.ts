/** The SIMT shim finds what it is there to find: each probe (native/simt/probe*.cc) has one mistake. */
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
  hopper_sound: /^nothing found$/,
  hopper_wrong_swizzle: /^c\[\d+\] is -?\d+, not -?\d+$/,
  hopper_wrong_stride: /^c\[\d+\] is -?\d+, not -?\d+$/,
  hopper_wrong_transposition: /^c\[\d+\] is -?\d+, not -?\d+$/,
  hopper_misaligned_ring: /copies a tile to \d+, which is no multiple of 1024$/,
  hopper_no_wait_for_copies: /multiplies what a copy has yet to bring to \d+$/,
  hopper_wrong_parity: /copies a tile to \d+, an operand of products under way$/,
  hopper_too_few_bytes: /waits for ever for the phase of an mbarrier$/,
  hopper_too_many_bytes: /waits for ever for the phase of an mbarrier$/,
  hopper_stage_freed_too_early: /copies a tile to \d+, an operand of products under way$/,
  hopper_stage_filled_unasked: /which has all 1 arrivals of its phase and waits for 24576 bytes$/,
  hopper_no_wait_for_products: /^c\[0\] is -?nan, not/,
  hopper_no_products_fence: /multiplies without a wgmma\.fence since it could last touch the sums$/,
  hopper_no_proxy_fence: /multiplies what was stored at \d+ without a fence\.proxy\.async$/,
  hopper_operand_overwritten: /overwrote an operand of products under way, at \d+$/,
  hopper_no_barrier_after_init: /uses an mbarrier at \d+ that was not initialised/,
  hopper_no_init_fence: /whose initialisation no fence has followed$/,
  hopper_copy_left_under_way: /ends while a copy to its shared memory is under way$/,
  hopper_one_warp_leaves_out_a_product: /issues another product than its warpgroup$/,
  cluster_sound: /^nothing found$/,
  cluster_no_barrier_before: /^y\[\d\] is -?nan$/,
  cluster_no_barrier_after: /reads shared memory of block \d of its cluster, which has ended$/,
  cluster_wrong_size: /waits for a cluster of 4 blocks, launched as one of 2$/,
};

t.test('mistakes in kernels are found', (t) => {
  if (probe === undefined) throw new Error('simt_probe was not built: run "npm run build:native"');
  for (const [name, expected] of Object.entries(FINDINGS))
    t.match(execFileSync(probe, [name], { encoding: 'utf8' }).trim(), expected, name);
  t.end();
});
