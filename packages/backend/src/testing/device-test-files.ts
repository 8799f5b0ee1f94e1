/** The test files that run on whatever device is named. */
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const source = path.dirname(path.dirname(fileURLToPath(import.meta.url)));

/** Absolute paths of the tests that ask for the device under test, themselves or through kernels/testing. */
export function deviceTestFiles(): string[] {
  const files = ['kernels', 'fused', '.']
    .flatMap((folder) =>
      fs.readdirSync(path.join(source, folder)).map((name) => path.join(source, folder, name)),
    )
    .filter((name) => name.endsWith('.test.ts'))
    .filter((name) =>
      /\b(testEngine|enginesUnderTest)\(|testing\/(agreement|plain-engine)\.js'/.test(
        fs.readFileSync(name, 'utf8'),
      ),
    );
  if (files.length < 8) throw new Error(`only ${files.length} tests of kernels: ${files}`);
  return files;
}

/** `kernels/mat-mul.test.ts` */
export const shortName = (file: string): string => path.relative(source, file);
