/** Looking through the numbers of tensors. */
import { throwIfCancelled } from '@equipoise/core';
import { isFloatType, readFloat32, type TensorSource } from '@equipoise/weights';

/** How many tensors are listed one by one. */
const LISTED = 10;

/** Reads every floating-point tensor and reports those with NaN or infinities. */
export async function checkValues(
  sources: Iterable<TensorSource>,
  problems: string[],
  signal: AbortSignal,
): Promise<void> {
  const found: string[] = [];
  for (const source of sources) {
    throwIfCancelled(signal, `inspect ${source.name}`);
    if (!isFloatType(source.dtype)) continue;
    const values = await readFloat32(source);
    let count = 0;
    for (const value of values) if (!Number.isFinite(value)) count++;
    if (count > 0)
      found.push(
        `${source.origin}: tensor ${JSON.stringify(source.name)}: ${count} of ${values.length} numbers are NaN or infinite`,
      );
  }
  problems.push(...found.slice(0, LISTED));
  if (found.length > LISTED) problems.push(`${found.length - LISTED} more tensors hold NaN or infinities`);
}
