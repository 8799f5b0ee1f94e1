export { type Comparison, compareRecords, EXIT_STATUS, type Verdict } from './compare/compare.js';
export type { BenchmarkRecord, CaseRecord } from './record.js';
