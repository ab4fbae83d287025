/** A table's partitions, as the service streams them. */

import { DataType } from "apache-arrow";
import { api } from "../api/client";
import { readArrow } from "../api/stream";
import type { TableDetail } from "../api/types";
import { cellNumber, cellText, isTemporal } from "../grid/values";
import { Rows } from "../state/rows";
import type { Partitions } from "./model";

export async function fetchPartitions(detail: TableDetail): Promise<Partitions> {
  let rows: Rows | null = null;
  await readArrow(
    await api.partitions(detail.schema, detail.name),
    (schema) => {
      rows = new Rows(schema);
    },
    (batch) => rows?.add(batch),
  );
  if (rows === null) throw new TypeError("the partitions came without a schema");
  return toPartitions(rows, detail);
}

/** The partition columns come first, in their order, and then the service's own. */
function toPartitions(rows: Rows, detail: TableDetail): Partitions {
  const names = detail.partition_columns;
  const own = names.length;
  return {
    columns: names.map((name, column) => ({
      name,
      type: detail.columns.find((each) => each.name === name)?.type ?? "string",
      values: texts(rows, column),
    })),
    keyOf: (row) => textAt(rows, row, own),
    rows: numbers(rows, own + 1, 1),
    bytes: numbers(rows, own + 2, 1),
    materializedAt: numbers(rows, own + 3, 1000),
    runIdOf: (row) => textAt(rows, row, own + 4),
    length: rows.length,
  };
}

function textAt(rows: Rows, row: number, column: number): string | null {
  const { data, index } = rows.at(row, column);
  return cellText(data, index);
}

/** A column's texts; equal values share one, and those that are stored as numbers are written out once. */
function texts(rows: Rows, column: number): (string | null)[] {
  const known = new Map<unknown, string>();
  const found: (string | null)[] = [];
  const type = rows.schema.fields[column]?.type;
  const isNumber = DataType.isInt(type) || isTemporal(type);
  rows.each(column, (data, index) => {
    if (!data.getValid(index)) {
      found.push(null);
      return;
    }
    const value: unknown = isNumber ? (data.values as ArrayLike<unknown>)[index] : cellText(data, index);
    const text = known.get(value) ?? cellText(data, index) ?? "";
    known.set(value, text);
    found.push(text);
  });
  return found;
}

function numbers(rows: Rows, column: number, scale: number): Float64Array {
  const found = new Float64Array(rows.length);
  rows.each(column, (data, index, row) => {
    found[row] = (cellNumber(data, index) ?? 0) * scale;
  });
  return found;
}
