// Prints the versions that cached build and test results depend on, as JSON (an nx runtime input; see nx.json).
import { toolchainVersions } from './lib/toolchain.mjs';

console.log(JSON.stringify(toolchainVersions()));
