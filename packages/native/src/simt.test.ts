/** The SIMT shim finds what it is there to find: each probe (native/simt/probe*.cc) has one mistake. */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { addonCandidates } from './index.js';

const probe = addonCandidates('simt')
  .map((file) => path.join(path.dirname(file), 'simt_probe'))
  .find((file) => fs.existsSync(file));

/** Two accesses that nothing orders, each with its place in the probes' source. */
const race = (accesses: string): RegExp =>
  new RegExp(
    `thread \\(\\d+,0,0\\) ${accesses}, and nothing orders the two\\n  here: .*probe\\w*\\.cc:\\d+.*\\n  before: .*probe\\w*\\.cc:\\d+`,
  );

const FINDINGS: Record<string, RegExp> = {
  sound: /^nothing found$/,
  reads_past_the_end:
    /^Probe \[64\]: block \(0,0,0\), thread \((0|63),0,0\) accessed \d+ bytes into a tensor of 256 bytes$/,
  reads_before_the_start: /accessed \d+ bytes before a tensor of 256 bytes/,
  writes_a_word_too_many: /a kernel wrote outside a tensor of 256 bytes/,
  leaves_a_barrier_out: race('stores 4 bytes at 128 of dynamic shared memory, that thread .31,0,0. loaded'),
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
  hopper_wrong_parity: race(
    'stores 512 bytes at 128 of dynamic shared memory, that a product of warp 0 loaded',
  ),
  hopper_too_few_bytes: /waits for ever for the phase of an mbarrier$/,
  hopper_too_many_bytes: /waits for ever for the phase of an mbarrier$/,
  hopper_stage_freed_too_early: /copies a tile to \d+, an operand of products under way$/,
  hopper_stage_filled_unasked: /which has all 1 arrivals of its phase and waits for 24576 bytes$/,
  hopper_no_wait_for_products: /^c\[0\] is -?nan, not/,
  hopper_no_products_fence: /multiplies without a wgmma\.fence since it could last touch the sums$/,
  hopper_no_proxy_fence: /multiplies what was stored at \d+ without a fence\.proxy\.async$/,
  hopper_operand_overwritten: race('stores 1 bytes at \\d+ of dynamic .*, that a product of warp 0 loaded'),
  hopper_no_barrier_after_init: race(
    'atomically changes 8 bytes at \\d+ of dynamic .*, that thread .* stored',
  ),
  hopper_no_init_fence: /whose initialisation no fence has followed$/,
  hopper_copy_left_under_way: /ends while a copy to its shared memory is under way$/,
  hopper_one_warp_leaves_out_a_product: /issues another product than its warpgroup$/,
  cluster_sound: /^nothing found$/,
  cluster_no_barrier_before: race(
    'stores 4 bytes at 0 of dynamic .*, that block .0,0,0., thread .0,0,0. loaded',
  ),
  cluster_no_barrier_after: /reads shared memory of block \d of its cluster, which has ended$/,
  cluster_wrong_size: /waits for a cluster of 4 blocks, launched as one of 2$/,
  race_none_barriers: /^nothing found$/,
  race_none_syncwarp: /^nothing found$/,
  race_none_named_barrier: /^nothing found$/,
  race_none_copies: /^nothing found$/,
  race_none_bytes: /^nothing found$/,
  race_none_atomics: /^nothing found$/,
  race_none_last_block: /^nothing found$/,
  race_after_store: race('stores 4 bytes of static shared memory, that thread .31,0,0. loaded'),
  race_before_reuse: race('loads 4 bytes of static shared memory, that thread .31,0,0. stored'),
  race_within_warp: race('loads 4 bytes at 120 of dynamic shared memory, that thread .30,0,0. stored'),
  race_between_warps: race('stores 4 bytes at 128 of dynamic shared memory, that thread .0,0,0. loaded'),
  race_outside_named_barrier: race('stores 4 bytes at 128 of dynamic .*, that thread .0,0,0. loaded'),
  race_with_copies: race('stores 16 bytes at 128 of dynamic shared memory, that thread .31,0,0. loaded'),
  race_same_output: race(
    'stores 4 bytes, 0 bytes into a tensor of 8 bytes, that block .0,0,0., thread .0,0,0. stored',
  ),
  race_reads_another_block: race('stores 4 bytes, 256 bytes into a tensor .*, that block .0,0,0., .* loaded'),
  race_in_place: race('loads 4 bytes, 0 bytes into a tensor of 512 bytes, that thread .0,0,0. stored'),
  race_with_atomics: race('atomically changes 4 bytes of static shared memory, that thread .0,0,0. loaded'),
  race_no_fence_before: race(
    'loads 4 bytes, 0 bytes into a tensor .*, that block .0,0,0., thread .0,0,0. stored',
  ),
  race_no_fence_after: race(
    'loads 4 bytes, 0 bytes into a tensor .*, that block .0,0,0., thread .0,0,0. stored',
  ),
  race_no_barrier_before_ticket: race('loads 4 bytes, 4 bytes into a tensor .*, thread .1,0,0. stored'),
};

t.test('mistakes in kernels are found', (t) => {
  if (probe === undefined) throw new Error('simt_probe was not built: run "npm run build:native"');
  for (const [name, expected] of Object.entries(FINDINGS))
    t.match(execFileSync(probe, [name], { encoding: 'utf8' }).trim(), expected, name);
  t.end();
});
