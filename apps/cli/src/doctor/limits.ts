/** How much memory this process may use. */
import { readFile } from 'node:fs/promises';
import { freemem, totalmem } from 'node:os';

export interface MemoryLimits {
  readonly totalBytes: number;
  readonly freeBytes: number;
  /** What the control group (a container) allows; null when there is no limit or no control group. */
  readonly cgroupBytes: number | null;
}

/** Reads the limits of the machine and of the container, if any. */
export async function memoryLimits(): Promise<MemoryLimits> {
  const files = ['/sys/fs/cgroup/memory.max', '/sys/fs/cgroup/memory/memory.limit_in_bytes'];
  let cgroupBytes: number | null = null;
  for (const file of files) {
    const text = await readFile(file, 'utf8').catch(() => '');
    const bytes = Number(text.trim() || Number.NaN);
    // Version 1 writes a number near 2^63 for "none"; version 2 writes "max".
    if (Number.isFinite(bytes) && bytes < totalmem()) cgroupBytes = bytes;
  }
  return { totalBytes: totalmem(), freeBytes: freemem(), cgroupBytes };
}
