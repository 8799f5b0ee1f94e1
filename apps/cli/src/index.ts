export { type CliEnvironment, runCli } from './cli.js';
export { type Command, type CommandContext, type CommandEntry, defineCommand } from './command.js';
