/** A table's partitions, as the service streams them. */

import type { Data } from "apache-arrow";
import { api } from "../api/client";
import { readArrow } from "../api/stream";
import type { TableDetail } from "../api/types";
import { cellNumber, cellText } from "../grid/values";
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
  const [key, count, size, time, run] = [0, 1, 2, 3, 4].map((place) => names.length + place) as [
    number,
    number,
    number,
    number,
    number,
  ];
  return {
    columns: names.map((name, column) => ({
      name,
      type: detail.columns.find((each) => each.name === name)?.type ?? "string",
      values: texts(rows, column),
    })),
    keys: texts(rows, key),
    rows: numbers(rows, count, 1),
    bytes: numbers(rows, size, 1),
    materializedAt: numbers(rows, time, 1000),
    runIds: texts(rows, run),
    length: rows.length,
  };
}

function texts(rows: Rows, column: number): (string | null)[] {
  const shared = new Map<string, string>(); // one string a value, not one a row
  return cells(rows, column, (data, index) => {
    const text = cellText(data, index);
    if (text === null) return null;
    const first = shared.get(text) ?? text;
    shared.set(text, first);
    return first;
  });
}

function numbers(rows: Rows, column: number, scale: number): Float64Array {
  return Float64Array.from(cells(rows, column, (data, index) => (cellNumber(data, index) ?? 0) * scale));
}

function cells<T>(rows: Rows, column: number, read: (data: Data, index: number) => T): T[] {
  return Array.from({ length: rows.length }, (_, row) => {
    const { data, index } = rows.at(row, column);
    return read(data, index);
  });
}
