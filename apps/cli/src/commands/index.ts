/** All commands in the order of help. A command's module is loaded when it is called. */
import type { CommandEntry } from '../command.js';

export const commands: Readonly<Record<string, CommandEntry>> = {
  doctor: {
    summary: 'What is installed, compiled and usable on this machine, and what to do about the rest',
    load: async () => (await import('./doctor.js')).doctor,
  },
  demo: {
    summary: 'A short self-demonstration of the engine: right results, and how fast',
    load: async () => (await import('./demo.js')).demo,
  },
  profile: {
    summary: 'Runs another command and tells where its time went: tasks, kernels, ceilings, memory',
    load: async () => (await import('./profile.js')).profile,
  },
  generate: {
    summary: 'Draws images from prompts with a Stable Diffusion pipeline and adapters',
    load: async () => (await import('./generate.js')).generate,
  },
  inspect: {
    summary: 'What a model, adapter or image file is, and what is wrong with it',
    load: async () => (await import('./inspect.js')).inspect,
  },
  convert: {
    summary: 'Copies a model or adapter with another number type, variant, shard size or spelling',
    load: async () => (await import('./convert.js')).convert,
  },
  'iti-gen train': {
    summary: 'Learns inclusive tokens from a few reference images per category',
    load: async () => (await import('./iti-gen/train.js')).itiGenTrain,
  },
  'iti-gen prepend': {
    summary: 'Applies learned tokens to any prompt, or composes tokens learned apart',
    load: async () => (await import('./iti-gen/prepend.js')).itiGenPrepend,
  },
  'iti-gen generate': {
    summary: 'Images of every combination of categories, in equal or given shares',
    load: async () => (await import('./iti-gen/generate.js')).itiGenGenerate,
  },
  'iti-gen compose': {
    summary: 'Puts tokens of attributes that were learned apart into one file',
    load: async () => (await import('./iti-gen/compose.js')).itiGenCompose,
  },
  'iti-gen evaluate': {
    summary:
      'How inclusive images are: histograms, divergence to uniform, FID, KID, diversity, prompt similarity',
    load: async () => (await import('./iti-gen/evaluate.js')).itiGenEvaluate,
  },
  'iti-gen report': {
    summary: 'One HTML page with JSON and CSV from training and evaluation runs',
    load: async () => (await import('./iti-gen/report.js')).itiGenReport,
  },
  'iti-gen table': {
    summary: 'Plain, hard and "with / without" prompts beside inclusive tokens, with several seeds',
    load: async () => (await import('./iti-gen/table.js')).itiGenTable,
  },
  'iti-gen study': {
    summary: 'Directions, number of references, interference, one attribute, drift against lambda',
    load: async () => (await import('./iti-gen/study.js')).itiGenStudy,
  },
  'mi sweep': {
    summary: 'Scores candidates of many prompts by mutual information, resumable and in shards',
    load: async () => (await import('./mi/sweep.js')).miSweep,
  },
  'mi estimate': {
    summary: 'Mutual information of existing images and prompts, with standard errors',
    load: async () => (await import('./mi/estimate.js')).miEstimate,
  },
  'mi merge': {
    summary: 'Joins the shards of a sweep',
    load: async () => (await import('./mi/merge.js')).miMerge,
  },
  'mi query': {
    summary: 'Asks the scores of sweeps in SQL',
    load: async () => (await import('./mi/query.js')).miQuery,
  },
  'mi export': {
    summary: 'Writes the scores of a sweep as Parquet or CSV',
    load: async () => (await import('./mi/export.js')).miExport,
  },
  'mi agreement': {
    summary: "Compares measures of alignment by Kendall's tau",
    load: async () => (await import('./mi/agreement.js')).miAgreement,
  },
  'mi-tune run': {
    summary: 'Rounds of scoring, choosing and tuning',
    load: async () => (await import('./mi-tune/run.js')).miTuneRun,
  },
  'mi-tune build': {
    summary: "Makes a fine-tuning set of the model's own best images",
    load: async () => (await import('./mi-tune/build.js')).miTuneBuild,
  },
  'mi-tune train': {
    summary: 'Fine-tunes a DoRA or LoRA adapter on such a set',
    load: async () => (await import('./mi-tune/train.js')).miTuneTrain,
  },
  'mi-tune evaluate': {
    summary: 'Alignment of a model with held-out prompts, per category',
    load: async () => (await import('./mi-tune/evaluate.js')).miTuneEvaluate,
  },
  'mi-tune report': {
    summary: 'Report of a run, with models compared',
    load: async () => (await import('./mi-tune/report.js')).miTuneReport,
  },
  'mi-tune study': {
    summary: "The paper's tables in miniature, on the embedded model",
    load: async () => (await import('./mi-tune/study.js')).miTuneStudy,
  },
  showcase: {
    summary: 'Both pipelines on the embedded model, with a report of what changed',
    load: async () => (await import('./showcase.js')).showcase,
  },
};
