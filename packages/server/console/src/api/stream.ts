/** An Arrow IPC stream as it comes, and whether it came to its end. */

import { type RecordBatch, RecordBatchReader, type Schema } from "apache-arrow";

const END = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];

/** Remembers the last bytes that went by: a whole stream ends with the marker, a broken one does not. */
export class EndWatch {
  private tail: number[] = [];

  async *watch(body: ReadableStream<Uint8Array>): AsyncGenerator<Uint8Array> {
    const reader = body.getReader();
    try {
      for (let next = await reader.read(); !next.done; next = await reader.read()) {
        this.remember(next.value);
        // Arrow's reader waits for more when it has exactly the bytes it wants: a chunk of whole messages would show up a chunk late.
        yield next.value.subarray(0, -1);
        yield next.value.subarray(-1);
      }
    } finally {
      await reader.cancel();
    }
  }

  remember(bytes: Uint8Array): void {
    this.tail = [...this.tail, ...bytes.subarray(-END.length)].slice(-END.length);
  }

  get ended(): boolean {
    return this.tail.length === END.length && this.tail.every((byte, index) => byte === END[index]);
  }
}

/** Thrown when a stream stops before its end marker. */
export class BrokenStream extends Error {}

/** Give a stream's schema once, then each of its batches. */
export async function readArrow(
  response: Response,
  onSchema: (schema: Schema) => void,
  onBatch: (batch: RecordBatch) => void,
): Promise<void> {
  if (response.body === null) throw new BrokenStream("The answer has no body.");
  const end = new EndWatch();
  const reader = await RecordBatchReader.from(end.watch(response.body));
  await reader.open();
  if (!(reader.schema as Schema | undefined)) throw new BrokenStream("The stream ended before its schema.");
  onSchema(reader.schema);
  for await (const batch of reader) if (batch.numRows > 0) onBatch(batch);
  if (!end.ended) throw new BrokenStream("The stream ended before its end.");
}
