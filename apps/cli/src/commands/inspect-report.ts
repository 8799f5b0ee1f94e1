/** What `equipoise inspect` finds, and how it is shown. */
import { EquipoiseError } from '@equipoise/core';
import type { TensorSource, TensorSummary } from '@equipoise/weights';

export interface AdapterPart {
  readonly component: string;
  readonly layers: number;
  readonly parameters: number;
  readonly ranks: readonly number[];
  /** Factors s on B A, distinct, ascending. */
  readonly scalings: readonly number[];
}

export interface PartReport {
  readonly name: string;
  readonly className: string | null;
  /** In words: `UNet of Stable Diffusion 2`. */
  readonly architecture?: string;
  readonly summary?: TensorSummary;
  /** Sets of weights there are, `plain` among them. */
  readonly variants?: readonly string[];
}

export interface TensorRow {
  readonly name: string;
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly bytes: number;
}

export interface Inspection {
  readonly path: string;
  readonly kind: 'pipeline' | 'model' | 'adapter' | 'prompt embeddings' | 'tensors' | 'image';
  readonly architecture: string;
  readonly parts: PartReport[];
  readonly summary?: TensorSummary;
  readonly adapter?: {
    readonly spelling: string;
    readonly dora: boolean;
    readonly parts: readonly AdapterPart[];
  };
  readonly metadata?: Readonly<Record<string, string>>;
  /** An image's embedded settings. */
  readonly settings?: unknown;
  readonly tensors: TensorRow[];
  /** What is wrong: it will not load, or not compute what it should. */
  readonly problems: string[];
  /** What is worth knowing. */
  readonly notices: string[];
}

export interface InspectOptions {
  readonly variant?: string | undefined;
  /** List every tensor. */
  readonly tensors: boolean;
  /** Read all numbers and look for NaN and infinities. */
  readonly values: boolean;
  readonly signal: AbortSignal;
}

/** Runs `work`; what it refuses becomes a problem of the report. */
export async function collect(problems: string[], work: () => Promise<void> | void): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (!(error instanceof EquipoiseError) || error.code === 'cancelled') throw error;
    problems.push([error.message, ...error.hints].join('\n'));
  }
}

/** Rows for `--tensors`. @param prefix the component, before each name */
export function tensorRows(sources: Iterable<TensorSource>, prefix = ''): TensorRow[] {
  return [...sources].map(({ name, dtype, shape, byteLength }) => ({
    name: prefix + name,
    dtype,
    shape,
    bytes: byteLength,
  }));
}

const UNITS = ['bytes', 'kB', 'MB', 'GB', 'TB'];

/** `1.73 GB`; units are decimal. */
export function byteText(bytes: number): string {
  const power = bytes < 1000 ? 0 : Math.min(UNITS.length - 1, Math.floor(Math.log10(bytes) / 3));
  return `${power === 0 ? bytes : (bytes / 1000 ** power).toPrecision(3)} ${UNITS[power]}`;
}

export function summaryText({ tensors, elements, bytes, dtypes }: TensorSummary): string {
  const types = Object.entries(dtypes).map(([dtype, count]) =>
    Object.keys(dtypes).length === 1 ? dtype : `${count} ${dtype}`,
  );
  return `${tensors} tensors, ${elements.toLocaleString('en-US')} numbers, ${byteText(bytes)} (${types.join(', ') || 'none'})`;
}

const indented = (text: string): string => text.replaceAll('\n', '\n    ');

/** The report as lines for a person. */
export function renderInspection(report: Inspection): string[] {
  const lines = [`${report.path}: ${report.kind}, ${report.architecture}`];
  if (report.summary !== undefined) lines.push(`  ${summaryText(report.summary)}`);
  const width = Math.max(0, ...report.parts.map(({ name }) => name.length));
  for (const { name, className, architecture, summary, variants } of report.parts) {
    const what = [
      className ?? 'unknown class',
      architecture,
      summary && summaryText(summary),
      variants && variants.length > 1 && `variants ${variants.join(', ')}`,
    ];
    lines.push(`  ${name.padEnd(width)}  ${what.filter(Boolean).join('; ')}`);
  }
  for (const part of report.adapter?.parts ?? []) {
    const { component, layers, parameters, ranks, scalings } = part;
    const plural = ranks.length === 1 ? 'rank' : 'ranks';
    lines.push(
      `  ${component}: ${layers} layers, ${parameters.toLocaleString('en-US')} parameters, ${plural} ${ranks.join(', ')}, scale ${scalings.map((value) => Number(value.toPrecision(4))).join(', ')}`,
    );
  }
  for (const [key, value] of Object.entries(report.metadata ?? {}))
    lines.push(
      `  metadata ${key}: ${value.length > 200 ? `${value.slice(0, 200)}… (${value.length} characters)` : value}`,
    );
  if (report.settings !== undefined)
    lines.push(
      ...JSON.stringify(report.settings, null, 2)
        .split('\n')
        .map((line) => `  ${line}`),
    );
  for (const { name, dtype, shape, bytes } of report.tensors)
    lines.push(`  ${name}  ${dtype} [${shape.join(', ')}]  ${byteText(bytes)}`);
  lines.push(
    ...report.notices.map((notice) => `  note: ${indented(notice)}`),
    ...report.problems.map((problem) => `  PROBLEM: ${indented(problem)}`),
  );
  lines.push(
    report.problems.length === 0
      ? '  No problems.'
      : `  ${report.problems.length === 1 ? 'One problem' : `${report.problems.length} problems`}.`,
  );
  return lines;
}
