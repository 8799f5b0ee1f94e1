/**
 * TensorBoard event files: TFRecord framing around `Event` protocol buffers, scalars and PNG images only.
 * Format: tensorflow/core/util/event.proto, tensorflow/core/framework/summary.proto and lib/io/record_writer.
 */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  // Castagnoli polynomial, reflected.
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  return crc;
});

/** CRC-32C as TFRecord stores it: rotated by 15 bits, plus a constant. */
export function maskedCrc32c(data: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of data) crc = (crc >>> 8) ^ (CRC_TABLE[(crc ^ byte) & 0xff] as number);
  crc = ~crc >>> 0;
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = BigInt(value);
  do {
    const low = Number(rest & 0x7fn);
    rest >>= 7n;
    bytes.push(rest > 0n ? low | 0x80 : low);
  } while (rest > 0n);
  return Buffer.from(bytes);
}

const LENGTH_DELIMITED = 2;
function bytesField(field: number, data: Uint8Array): Buffer {
  return Buffer.concat([varint((field << 3) | LENGTH_DELIMITED), varint(data.length), data]);
}
const textField = (field: number, text: string): Buffer => bytesField(field, Buffer.from(text, 'utf8'));
const varintField = (field: number, value: number): Buffer =>
  Buffer.concat([varint(field << 3), varint(value)]);

function doubleField(field: number, value: number): Buffer {
  const out = Buffer.alloc(8);
  out.writeDoubleLE(value);
  return Buffer.concat([varint((field << 3) | 1), out]);
}

function floatField(field: number, value: number): Buffer {
  const out = Buffer.alloc(4);
  out.writeFloatLE(value);
  return Buffer.concat([varint((field << 3) | 5), out]);
}

function record(data: Buffer): Buffer {
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(data.length));
  const crc = (bytes: Buffer): Buffer => {
    const out = Buffer.alloc(4);
    out.writeUInt32LE(maskedCrc32c(bytes));
    return out;
  };
  return Buffer.concat([length, crc(length), data, crc(data)]);
}

function event(wallTime: number, ...fields: Buffer[]): Buffer {
  return record(Buffer.concat([doubleField(1, wallTime), ...fields]));
}

/** Appends scalars and images to a fresh event file in `folder`; TensorBoard merges the files of one folder. */
export class TensorBoardWriter {
  readonly file: string;

  constructor(folder: string) {
    fs.mkdirSync(folder, { recursive: true });
    const now = Date.now() / 1000;
    this.file = path.join(
      folder,
      `events.out.tfevents.${now.toFixed(0)}.${os.hostname()}.${process.pid}.${performance.now().toFixed(0)}`,
    );
    fs.appendFileSync(this.file, event(now, textField(3, 'brain.Event:2')));
  }

  /** @param scalars value by tag, for example `{ 'loss/total': 0.3 }` */
  scalars(step: number, scalars: Readonly<Record<string, number>>): void {
    const values = Object.entries(scalars).map(([tag, value]) =>
      bytesField(1, Buffer.concat([textField(1, tag), floatField(2, value)])),
    );
    this.#write(step, values);
  }

  image(step: number, tag: string, image: { png: Uint8Array; width: number; height: number }): void {
    const rgb = 3;
    const fields = [
      varintField(1, image.height),
      varintField(2, image.width),
      varintField(3, rgb),
      bytesField(4, image.png),
    ];
    this.#write(step, [
      bytesField(1, Buffer.concat([textField(1, tag), bytesField(4, Buffer.concat(fields))])),
    ]);
  }

  #write(step: number, values: Buffer[]): void {
    fs.appendFileSync(
      this.file,
      event(Date.now() / 1000, varintField(2, step), bytesField(5, Buffer.concat(values))),
    );
  }
}
