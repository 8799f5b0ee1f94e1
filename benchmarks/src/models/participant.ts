/** A child process that answers the requests of protocol.ts: ours, or the peer's. */
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { LineProcess } from '../measure/line-process.js';
import { peerScripts } from '../measure/peer.js';
import type { Work } from '../measure/work.js';
import type { ModelRequest } from './protocol.js';

const here = path.dirname(fileURLToPath(import.meta.url));
export const peerScript = path.join(peerScripts, 'torch_models.py');

export interface Measurement {
  readonly seconds: number;
  /** Largest resident size of the process so far. */
  readonly peakBytes: number;
  /** What a `count` found. */
  readonly work?: Work;
}

export class Participant extends LineProcess {
  static ours(): Participant {
    const extension = path.extname(fileURLToPath(import.meta.url));
    const child = path.join(here, `child${extension}`);
    return new Participant('equipoise', process.execPath, [...process.execArgv, child]);
  }

  static peer(name: string, python: string): Participant {
    return new Participant(name, python, [peerScript, 'serve']);
  }

  /** @throws EquipoiseError when the process fails or ends */
  measure(request: ModelRequest): Promise<Measurement> {
    return this.ask<Measurement>(request);
  }
}
