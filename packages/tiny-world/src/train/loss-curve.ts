/** The loss curve of a stage as an SVG picture. */
import { lineChart } from '@equipoise/report';

/** Points of the drawn curve; each is the mean of as many losses as fall on it. */
const POINTS = 120;

/** Draws the losses of updates 1 to `losses.length` on a logarithmic axis. */
export function lossChart(name: string, losses: Float32Array): string {
  const width = Math.max(1, Math.ceil(losses.length / POINTS));
  const points = Array.from({ length: Math.ceil(losses.length / width) }, (_, index) => {
    const part = losses.subarray(index * width, (index + 1) * width);
    const mean = part.reduce((sum, loss) => sum + loss, 0) / part.length;
    return { x: index * width + (part.length + 1) / 2, y: mean, series: name };
  });
  const chart = lineChart(points, { x: 'update', y: `loss of ${name}`, logY: true });
  // One line needs no legend, which comes before the drawing.
  return chart.slice(chart.lastIndexOf('<svg'));
}
