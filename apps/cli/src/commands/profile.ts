import { type DeviceProfile, ProfileSession, traceLines } from '@equipoise/backend';
import { defineOptions, invalid, option, writeFileAtomic, writeFully, z } from '@equipoise/core';
import { type CommandContext, defineCommand } from '../command.js';
import { renderProfile } from '../profile/render.js';
import { profileRecord } from '../profile/report.js';

/** Viewers take about as many. */
const MOST_TRACED = 1_000_000;

const options = defineOptions('profile', {
  command: option(z.array(z.string()).min(1), 'Command line to run, without the word equipoise.', {
    whole: true,
  }),
  trace: option(
    z.string().min(1).optional(),
    'File for a trace of every launch, which ui.perfetto.dev and chrome://tracing open.',
    { placeholder: 'file' },
  ),
  json: option(z.string().min(1).optional(), 'File for all figures.', { placeholder: 'file' }),
  top: option(z.int().min(1).max(10_000).default(15), 'Rows of each table.'),
});

async function writeTrace(path: string, profile: DeviceProfile, note: CommandContext['note']): Promise<void> {
  await writeFileAtomic(path, async (file) => {
    let chunk = '';
    for (const line of traceLines(profile, MOST_TRACED)) {
      chunk += `${line}\n`;
      if (chunk.length < 1 << 20) continue;
      await writeFully(file, Buffer.from(chunk));
      chunk = '';
    }
    await writeFully(file, Buffer.from(chunk));
  });
  const more = profile.launches.kind.length - MOST_TRACED;
  if (more > 0) note(`${path}: the first ${MOST_TRACED} launches; ${more} more are in the tables alone`);
}

interface Outcome {
  readonly status: number;
  readonly failure?: { readonly error: unknown };
  readonly taken: DeviceProfile | undefined;
}

/** Runs the command; what it did until it failed is told too. */
async function runProfiled(
  session: ProfileSession,
  command: readonly string[],
  { runWords }: CommandContext,
): Promise<Outcome> {
  let status = 0;
  let failure: Outcome['failure'];
  let taken: DeviceProfile | undefined;
  try {
    status = await runWords(command, (event) => session.progress(event));
  } catch (error) {
    failure = { error };
  }
  try {
    taken = session.finish();
  } catch (error) {
    failure ??= { error };
  }
  return { status, taken, ...(failure !== undefined && { failure }) };
}

export const profile = defineCommand({
  options,
  positionals: ['command'],
  passesOn: true,
  description:
    'Runs a command and tells where its time went: for each task the time, how busy device and JavaScript thread were, and the units per second; for each kernel launches, time, FLOP/s and GB/s, and the share of what the ceilings allow, which are measured on the same device afterwards.\n\nWhat the command itself prints stays on standard output; the tables go to standard error. Stopped by Ctrl-C, it tells about what ran until then. The exit status is that of the command.',
  examples: [
    'equipoise profile generate "a red circle" --model sd/ --steps 20 --out images/',
    'equipoise profile --trace trace.json --json profile.json mi-tune train --set set/ --model sd/ --out run/',
  ],
  async run({ command, trace, json, top }, context) {
    if (command[0] === 'profile') throw invalid('command', 'another command than profile', 'profile');
    const started = new Date();
    const session = new ProfileSession();
    const { status, failure, taken } = await runProfiled(session, command, context);
    const { native } = session;
    const empty = taken === undefined || taken.launches.kind.length === 0;
    if (native !== undefined && !empty) {
      const record = await profileRecord(taken, { native, argv: context.argv, started });
      for (const line of renderProfile(record, top)) context.note(line);
      if (json !== undefined) await writeFileAtomic(json, `${JSON.stringify(record, null, 2)}\n`);
      if (trace !== undefined) await writeTrace(trace, taken, context.note);
    }
    if (failure !== undefined) throw failure.error;
    if (empty)
      throw invalid('command', 'one that computes on equipoise-cpu or equipoise-cuda', command.join(' '));
    return status;
  },
});
