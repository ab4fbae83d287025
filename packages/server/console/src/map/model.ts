/** A table's partitions as cells over one or two of their columns. Pure. */

import { type Axis, axis } from "./axis";

export type Metric = "rows" | "bytes" | "age";

/** The partitions of a table, column by column. */
export interface Partitions {
  columns: readonly { name: string; type: string; values: readonly (string | null)[] }[];
  /** Dagster's key of a partition. */
  keyOf: (row: number) => string | null;
  rows: Float64Array;
  bytes: Float64Array;
  /** Milliseconds since 1970. */
  materializedAt: Float64Array;
  runIdOf: (row: number) => string | null;
  length: number;
}

export interface PartitionMap {
  x: Axis;
  y: Axis;
  /** Partitions of each cell, row by row; 0 is a hole. */
  counts: Uint32Array;
  rows: Float64Array;
  bytes: Float64Array;
  /** The oldest partition's time of each cell. */
  times: Float64Array;
  /** One partition of each cell. */
  example: Int32Array;
  holes: number;
}

export const MOST_CELLS = 8_000_000;
const ONLY: Axis = { name: "", type: "", isTime: false, slots: [""], slotOf: new Map([["", 0]]) };

/** The columns to draw first: time along x, and the one before it along y. */
export function defaultAxes(columns: Partitions["columns"]): { x: number; y: number | null } {
  const time = columns.findLastIndex(({ type }) => /^(date|timestamp)/.test(type));
  const x = time === -1 ? columns.length - 1 : time;
  const others = columns.map((_, index) => index).filter((index) => index !== x);
  return { x, y: others.at(-1) ?? null };
}

/** The map over two columns, or over one; null when there would be too many cells to draw. */
export function partitionMap(partitions: Partitions, xColumn: number, yColumn: number | null): PartitionMap | null {
  const [x, y] = [axisOf(partitions, xColumn), yColumn === null ? ONLY : axisOf(partitions, yColumn)];
  const size = x.slots.length * y.slots.length;
  if (size > MOST_CELLS) return null;
  const map = {
    x,
    y,
    holes: 0,
    counts: new Uint32Array(size),
    rows: new Float64Array(size),
    bytes: new Float64Array(size),
    times: new Float64Array(size).fill(Number.POSITIVE_INFINITY),
    example: new Int32Array(size).fill(-1),
  };
  const xs = partitions.columns[xColumn]?.values ?? [];
  const ys = yColumn === null ? null : (partitions.columns[yColumn]?.values ?? []);
  for (let row = 0; row < partitions.length; row += 1) {
    const slot =
      (ys === null ? 0 : (y.slotOf.get(ys[row] ?? null) ?? 0)) * x.slots.length + (x.slotOf.get(xs[row] ?? null) ?? 0);
    map.counts[slot] = (map.counts[slot] ?? 0) + 1;
    map.rows[slot] = (map.rows[slot] ?? 0) + (partitions.rows[row] ?? 0);
    map.bytes[slot] = (map.bytes[slot] ?? 0) + (partitions.bytes[row] ?? 0);
    map.times[slot] = Math.min(map.times[slot] ?? 0, partitions.materializedAt[row] ?? 0);
    map.example[slot] = row;
  }
  map.holes = map.counts.reduce((holes, partitionsHere) => holes + (partitionsHere === 0 ? 1 : 0), 0);
  return map;
}

function axisOf(partitions: Partitions, column: number): Axis {
  const found = partitions.columns[column];
  return found === undefined ? ONLY : axis(found.name, found.type, found.values);
}

export interface Range {
  low: number;
  high: number;
}

/** What a cell is coloured by. */
export function measure(map: PartitionMap, metric: Metric): Float64Array {
  return metric === "rows" ? map.rows : metric === "bytes" ? map.bytes : map.times;
}

export function rangeOf(map: PartitionMap, metric: Metric): Range {
  const values = measure(map, metric);
  let [low, high] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (let slot = 0; slot < values.length; slot += 1) {
    if (map.counts[slot] === 0) continue;
    low = Math.min(low, values[slot] ?? 0);
    high = Math.max(high, values[slot] ?? 0);
  }
  return { low, high };
}

/** The nearest cells along x that hold something, on both sides of a hole. */
export function neighbours(
  map: PartitionMap,
  column: number,
  row: number,
): { before: number | null; after: number | null } {
  const at = (x: number): boolean => (map.counts[row * map.x.slots.length + x] ?? 0) > 0;
  let [before, after] = [column - 1, column + 1];
  while (before >= 0 && !at(before)) before -= 1;
  while (after < map.x.slots.length && !at(after)) after += 1;
  return { before: before < 0 ? null : before, after: after >= map.x.slots.length ? null : after };
}
