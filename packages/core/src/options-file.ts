/** Options kept in a file: YAML, of which JSON is a part. */
import { readFile, stat } from 'node:fs/promises';
import { parse } from 'yaml';
import { EquipoiseError, invalid, prose, systemErrorCode } from './errors.js';
import { camelCase } from './options.js';

const MAX_BYTES = 1 << 20;

/**
 * Reads a file of options: a mapping from option to value. Keys may be written as in code (`guidanceScale`) or as
 * flags (`guidance-scale`). Validate the result with `parse(values, { file: path })`.
 *
 * @throws EquipoiseError `missing`, or `corrupt` with the line of the fault
 */
export async function readOptionsFile(path: string): Promise<Record<string, unknown>> {
  let text: string;
  try {
    const { size } = await stat(path);
    if (size > MAX_BYTES)
      throw invalid(path, `at most ${MAX_BYTES} bytes of options`, size, { code: 'corrupt' });
    text = await readFile(path, 'utf8');
  } catch (cause) {
    if (systemErrorCode(cause) === 'ENOENT')
      throw new EquipoiseError('missing', `${path}: no such file`, { cause });
    throw cause;
  }
  const value = parseYaml(text, path);
  if (value === null || value === undefined) return {};
  if (typeof value !== 'object' || Array.isArray(value)) {
    throw invalid(path, 'a mapping from option to value', value, { code: 'corrupt' });
  }
  const options: Record<string, unknown> = {};
  for (const [key, entry] of Object.entries(value)) {
    const name = camelCase(key);
    if (Object.hasOwn(options, name)) {
      throw invalid(`${path}: ${key}`, 'each option once', prose('two spellings of one'), {
        code: 'corrupt',
      });
    }
    options[name] = entry;
  }
  return options;
}

function parseYaml(text: string, path: string): unknown {
  try {
    return parse(text, { prettyErrors: true });
  } catch (cause) {
    const reason = cause instanceof Error ? (cause.message.split('\n')[0] ?? '') : String(cause);
    throw new EquipoiseError(
      'corrupt',
      `${path}: expected YAML or JSON, got a syntax error (${reason.replace(/:$/, '')})`,
      {
        cause,
      },
    );
  }
}
