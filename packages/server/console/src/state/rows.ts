/** The rows of a result: batches as they came, and where each row is. */

import type { Data, RecordBatch, Schema } from "apache-arrow";

export class Rows {
  private readonly batches: RecordBatch[] = [];
  private readonly starts: number[] = [];
  length = 0;

  constructor(readonly schema: Schema) {}

  add(batch: RecordBatch): void {
    this.batches.push(batch);
    this.starts.push(this.length);
    this.length += batch.numRows;
  }

  /** The column's data that holds a row, and the row's index in it. */
  at(row: number, column: number): { data: Data; index: number } {
    const place = this.batchOf(row);
    const data = this.batches[place]?.data.children[column];
    if (data === undefined) throw new RangeError(`no cell at row ${row}, column ${column}`);
    return { data, index: row - (this.starts[place] ?? 0) };
  }

  /** All cells of a column, in order. */
  each(column: number, take: (data: Data, index: number, row: number) => void): void {
    let row = 0;
    for (const batch of this.batches) {
      const data = batch.data.children[column] as Data;
      for (let index = 0; index < batch.numRows; index += 1) take(data, index, row++);
    }
  }

  private batchOf(row: number): number {
    let low = 0;
    let high = this.starts.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if ((this.starts[middle] ?? 0) <= row) low = middle;
      else high = middle - 1;
    }
    return low;
  }
}
