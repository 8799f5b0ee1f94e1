/** All commands in the order of help. A command's module is loaded when it is called. */
import type { CommandEntry } from '../command.js';

export const commands: Readonly<Record<string, CommandEntry>> = {
  doctor: {
    summary: 'What is installed, compiled and usable on this machine, and what to do about the rest',
    load: async () => (await import('./doctor.js')).doctor,
  },
  demo: {
    summary: 'A short self-demonstration of the engine: right results, and how fast',
    load: async () => (await import('./demo.js')).demo,
  },
};
