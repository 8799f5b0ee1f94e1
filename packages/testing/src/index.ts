export * from './compare.js';
export * from './engine-checks.js';
export * from './fixtures.js';
export * from './inputs.js';
export * from './reference.js';
export * from './shapes.js';
export * from './test-engine.js';
