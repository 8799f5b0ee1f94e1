// Dependencies point one way: apps -> packages -> packages/native -> native/. See CONTRIBUTING.md.
const test = '[.]test[.]ts$';

/** @type {import('dependency-cruiser').IConfiguration} */
module.exports = {
  forbidden: [
    {
      name: 'pure-packages-without-engine',
      comment:
        'core, weights, metrics and the schedules and samplers of diffusion are pure: they run without any addon.',
      severity: 'error',
      from: {
        path: '^packages/(core|weights|metrics)/src/|^packages/diffusion/src/(schedule|timesteps|scheduler-config|samplers/)',
        pathNot: test,
      },
      to: { path: '^packages/native/', reachable: true },
    },
    {
      name: 'engine-only-through-backend',
      comment:
        'Above packages/backend nothing knows which engine runs. The doctor and the benchmarks look underneath.',
      severity: 'error',
      from: { path: '^packages/(?!native/|backend/)', pathNot: test },
      to: { path: '^packages/native/' },
    },
    {
      name: 'core-at-the-bottom',
      severity: 'error',
      from: { path: '^packages/core/' },
      to: { path: '^packages/(?!core/)' },
    },
    {
      name: 'native-imports-no-package',
      severity: 'error',
      from: { path: '^packages/native/' },
      to: { path: '^packages/(?!native/)', pathNot: '^packages/testing/' },
    },
    {
      name: 'models-below-pipelines',
      comment: 'native < backend < models < diffusion, adapters < pipelines.',
      severity: 'error',
      from: {
        path: '^packages/(backend|models|adapters|diffusion|weights|metrics|report)/src/',
        pathNot: test,
      },
      to: { path: '^packages/(iti-gen|mi-tune|tiny-world)/' },
    },
    {
      name: 'backend-below-models',
      severity: 'error',
      from: { path: '^packages/(backend|weights|metrics|report)/src/', pathNot: test },
      to: { path: '^packages/(models|adapters|diffusion)/' },
    },
    {
      name: 'models-below-diffusion',
      severity: 'error',
      from: { path: '^packages/models/src/', pathNot: test },
      to: { path: '^packages/(adapters|diffusion)/' },
    },
    {
      name: 'packages-below-apps',
      severity: 'error',
      from: { path: '^packages/' },
      to: { path: '^(apps|benchmarks|tools)/' },
    },
    {
      name: 'no-reaching-into-packages',
      comment: 'Another package is imported by its name, never by a path into its folder.',
      severity: 'error',
      from: { path: '^(?:packages|apps)/([^/]+)/' },
      to: {
        path: '^packages/',
        pathNot: '^packages/$1/',
        dependencyTypes: ['local'],
        dependencyTypesNot: ['npm'],
      },
    },
    {
      name: 'testing-only-in-tests',
      severity: 'error',
      from: {
        path: '^(packages|apps)/(?!testing/)',
        pathNot: [test, '/testing[.]ts$', '/src/testing/', '/src/[^/]+/testing/'],
      },
      to: { path: '^packages/testing/' },
    },
    {
      name: 'nobody-imports-tests',
      severity: 'error',
      from: { pathNot: test },
      to: { path: test },
    },
    {
      name: 'no-cycles',
      severity: 'error',
      from: {},
      to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } },
    },
    {
      name: 'declared-dependencies',
      comment: "Everything imported is in the package's own package.json.",
      severity: 'error',
      from: {},
      to: { dependencyTypes: ['npm-no-pkg', 'npm-unknown'] },
    },
    {
      name: 'resolvable',
      severity: 'error',
      from: {},
      to: { couldNotResolve: true },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '(^|/)(dist|build|build-sanitize|fixtures)/' },
    tsPreCompilationDeps: true,
    combinedDependencies: false,
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['equipoise-source', 'import', 'node', 'default', 'types'],
      extensions: ['.ts', '.mjs', '.js', '.cjs', '.d.ts'],
    },
  },
};
