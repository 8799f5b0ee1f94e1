/** Plots as SVG text, made on the server by Observable Plot on a small DOM. */
import * as Plot from '@observablehq/plot';
import { parseHTML } from 'linkedom';

/** The little of the DOM that is used here; the DOM library's types are for browsers. */
interface Element {
  readonly localName: string;
  readonly outerHTML: string;
  readonly children: Iterable<Element>;
  setAttribute(name: string, value: string): void;
}

export interface PlotSize {
  readonly width?: number;
  readonly height?: number;
}

export interface Point {
  readonly x: number;
  readonly y: number;
  /** Name of the line or group. */
  readonly series: string;
}

export interface Bar {
  readonly category: string;
  readonly value: number;
  readonly series: string;
}

function render(options: Plot.PlotOptions, size: PlotSize): string {
  const { document } = parseHTML('<!doctype html><html><body></body></html>');
  const figure = Plot.plot({
    width: size.width ?? 560,
    height: size.height ?? 280,
    marginLeft: 56,
    document,
    ...options,
  }) as unknown as Element;
  // With a legend, Plot returns a figure: the legend's swatches, then the drawing.
  const svg =
    figure.localName === 'svg' ? figure : [...figure.children].find((child) => child.localName === 'svg');
  const legend = figure.localName === 'svg' ? '' : legendOf(figure);
  svg?.setAttribute('xmlns', 'http://www.w3.org/2000/svg');
  return `${legend}${svg?.outerHTML ?? ''}`;
}

/** Plot puts its legend beside the drawing, as HTML with a style sheet of its own. */
function legendOf(figure: Element): string {
  return [...figure.children]
    .filter((child) => child.localName === 'div')
    .map((child) => child.outerHTML)
    .join('');
}

/** Lines over a numeric axis, one colour per series. Points with a value that is not finite are left out. */
export function lineChart(
  points: readonly Point[],
  labels: { x: string; y: string; logY?: boolean },
  size: PlotSize = {},
): string {
  const data = points.filter(
    ({ x, y }) => Number.isFinite(x) && Number.isFinite(y) && (labels.logY !== true || y > 0),
  );
  return render(
    {
      x: { label: labels.x },
      y: { label: labels.y, grid: true, ...(labels.logY === true && { type: 'log' as const }) },
      color: { legend: true },
      marks: [Plot.line(data, { x: 'x', y: 'y', stroke: 'series' })],
    },
    size,
  );
}

/** Bars side by side: one group per category, one bar per series, an optional line across (for example uniform). */
export function barChart(
  bars: readonly Bar[],
  labels: { x: string; y: string; reference?: number },
  size: PlotSize = {},
): string {
  const categories = [...new Set(bars.map(({ category }) => category))];
  const series = [...new Set(bars.map((bar) => bar.series))];
  return render(
    {
      x: { axis: null, domain: series },
      fx: { label: labels.x, domain: categories },
      y: { label: labels.y, grid: true },
      color: { legend: true, domain: series },
      marks: [
        Plot.barY(bars, { x: 'series', y: 'value', fill: 'series', fx: 'category' }),
        Plot.ruleY([0]),
        ...(labels.reference === undefined
          ? []
          : [Plot.ruleY([labels.reference], { strokeDasharray: '4 3' })]),
      ],
    },
    size,
  );
}

/** Points of two measures against each other. */
export function scatterChart(
  points: readonly Point[],
  labels: { x: string; y: string },
  size: PlotSize = {},
): string {
  return render(
    {
      x: { label: labels.x },
      y: { label: labels.y, grid: true },
      color: { legend: true },
      marks: [Plot.dot(points, { x: 'x', y: 'y', stroke: 'series' })],
    },
    size,
  );
}
