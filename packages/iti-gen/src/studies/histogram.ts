/** Histograms of categories, several sets of images side by side. */
import { type Block, barChart } from '@equipoise/report';
import type { AttributeBalance } from '../evaluate.js';
import { meanOf } from './summary.js';

export interface NamedBalances {
  readonly name: string;
  /** Balances of one or several evaluations; those of other attributes are passed over. */
  readonly balances: readonly AttributeBalance[];
}

/** Shares of an attribute's categories by set, with the uniform share as a line. */
export function labelledHistogram(attribute: string, sets: readonly NamedBalances[]): Block {
  const own = sets.map(({ name, balances }) => ({
    name,
    balances: balances.filter((balance) => balance.attribute === attribute),
  }));
  const categories = own.find(({ balances }) => balances.length > 0)?.balances[0]?.categories ?? [];
  const bars = own.flatMap(({ name, balances }) =>
    balances.length === 0
      ? []
      : categories.map((category, k) => ({
          category,
          series: name,
          value: meanOf(
            balances.map(({ counts }) => (counts[k] as number) / counts.reduce((a, b) => a + b, 0)),
          ),
        })),
  );
  return {
    kind: 'plot',
    title: `${attribute}: shares of categories`,
    svg: barChart(
      bars,
      { x: '', y: 'share', reference: 1 / Math.max(1, categories.length) },
      { width: Math.max(480, categories.length * 100) },
    ),
  };
}
