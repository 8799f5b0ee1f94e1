/** The diagnosis as lines for a person. */
import type { AddonStatus, Diagnosis } from './diagnose.js';

const GIB = 2 ** 30;

/** `12.3 GiB`. */
export function gib(bytes: number): string {
  return `${(bytes / GIB).toFixed(1)} GiB`;
}

export function renderDiagnosis(diagnosis: Diagnosis): string[] {
  const { machine, memory, git } = diagnosis;
  const commit = git === null ? '' : ` (${git.commit.slice(0, 12)}${git.dirty ? ', changed' : ''})`;
  const lines = [
    `equipoise ${diagnosis.version}${commit}`,
    '',
    'Machine',
    ...rows({
      processor: `${machine.cpu}, ${machine.cores} cores`,
      platform: `${machine.platform}, ${machine.arch}`,
      memory: `${gib(memory.totalBytes)}, ${gib(memory.freeBytes)} free${memory.cgroupBytes === null ? '' : `, container limit ${gib(memory.cgroupBytes)}`}`,
    }),
    '',
    'Versions',
    ...rows({ node: String(machine.node), ...diagnosis.tools, ...diagnosis.packages }),
  ];
  for (const addon of diagnosis.addons) lines.push('', `Device ${addon.device}`, ...renderAddon(addon));
  lines.push('', 'Libraries opened at run time');
  for (const { name, purpose, path } of diagnosis.libraries)
    lines.push(...rows({ [name]: path ?? `not found (${purpose})` }));
  lines.push('', 'Engines');
  for (const { name, usable, detail } of diagnosis.engines) {
    lines.push(...rows({ [name]: `${usable ? 'ready' : 'not available'}: ${detail.split('\n').join(' ')}` }));
  }
  lines.push(
    '',
    ...(diagnosis.problems.length === 0
      ? ['All is well.']
      : ['Problems', ...diagnosis.problems.map((p) => `  ${p}`)]),
  );
  return lines;
}

function renderAddon({ path, problem, description, memoryLimitBytes }: AddonStatus): string[] {
  if (problem !== null) return problem.split('\n').map((line) => `  ${line}`);
  const details: Record<string, string> = {};
  for (const [key, value] of Object.entries(description ?? {})) {
    if (key !== 'device') details[key] = typeof value === 'boolean' ? (value ? 'yes' : 'no') : String(value);
  }
  return rows({
    ...details,
    'memory limit': memoryLimitBytes === null ? null : gib(memoryLimitBytes),
    addon: path,
  });
}

function rows(values: Readonly<Record<string, string | null>>): string[] {
  return Object.entries(values).map(([key, value]) => `  ${key.padEnd(22)} ${value ?? 'not found'}`);
}
