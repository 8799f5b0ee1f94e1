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

/**
 * A colour per series in order of appearance, with a legend. The scale is said to be categorical, because Plot takes one
 * without values for continuous and would draw its legend on a canvas.
 */
function seriesColors(marks: readonly { readonly series: string }[]): Plot.ScaleOptions {
  const domain = [...new Set(marks.map(({ series }) => series))];
  return { type: 'categorical', domain, legend: domain.length > 0 };
}

const isFinitePoint = ({ x, y }: Point): boolean => Number.isFinite(x) && Number.isFinite(y);

/** Lines over a numeric axis, one colour per series. Points with a value that is not finite are left out. */
export function lineChart(
  points: readonly Point[],
  labels: { x: string; y: string; logY?: boolean },
  size: PlotSize = {},
): string {
  const data = points.filter((point) => isFinitePoint(point) && (labels.logY !== true || point.y > 0));
  return render(
    {
      x: { label: labels.x },
      y: { label: labels.y, grid: true, ...(labels.logY === true && { type: 'log' as const }) },
      color: seriesColors(points),
      // Said although it is the stroke: Plot warns on the console of a series with hardly more than one point.
      marks: [Plot.line(data, { x: 'x', y: 'y', z: 'series', stroke: 'series' })],
    },
    size,
  );
}

/**
 * Bars side by side: one group per category, one bar per series, an optional line across (for example uniform). A value
 * that is not finite has no bar.
 */
export function barChart(
  bars: readonly Bar[],
  labels: { x: string; y: string; reference?: number },
  size: PlotSize = {},
): string {
  const categories = [...new Set(bars.map(({ category }) => category))];
  const color = seriesColors(bars);
  const data = bars.filter(({ value }) => Number.isFinite(value));
  return render(
    {
      x: { axis: null, domain: color.domain as string[] },
      fx: { label: labels.x, domain: categories },
      y: { label: labels.y, grid: true },
      color,
      marks: [
        Plot.barY(data, { x: 'series', y: 'value', fill: 'series', fx: 'category' }),
        Plot.ruleY([0]),
        ...(labels.reference === undefined
          ? []
          : [Plot.ruleY([labels.reference], { strokeDasharray: '4 3' })]),
      ],
    },
    size,
  );
}
