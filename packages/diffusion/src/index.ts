export * from './image-output.js';
export * from './pipeline/index.js';
export * from './samplers/index.js';
export * from './schedule.js';
export * from './scheduler-config.js';
export * from './timesteps.js';
