/** The statements that a cell of the map, or the cells beside a hole, stand for. Pure. */

import { equals, literal, quoteName } from "../sql/literals";
import type { Axis } from "./axis";
import type { PartitionMap, Partitions } from "./model";
import type { Spot } from "./view";

export interface Place {
  axis: Axis;
  slot: number;
}

/** The slots that meet in a cell: the one across first, then the one along x. */
export function placesOf(map: PartitionMap, { column, row }: Spot): Place[] {
  const across = map.y.name === "" ? [] : [{ axis: map.y, slot: row }];
  return [...across, { axis: map.x, slot: column }];
}

export function partitionQuery(schema: string, table: string, places: readonly Place[]): string {
  return `${selectFrom(schema, table)}\nwhere ${places.map(condition).join("\n  and ")}`;
}

/** The query of one partition. */
export function rowQuery(schema: string, table: string, { columns }: Partitions, row: number): string {
  const filters = columns.map(({ name, type, values }) => equals(name, type, values[row] ?? null));
  return `${selectFrom(schema, table)}\nwhere ${filters.join("\n  and ")}`;
}

/** What was materialized on both sides of a hole, counted by the column that runs along it. */
export function neighboursQuery(
  schema: string,
  table: string,
  along: Axis,
  before: number | null,
  after: number | null,
  across: readonly Place[],
): string {
  const column = quoteName(along.name);
  const slots = [before, after].filter((slot) => slot !== null).map((slot) => along.slots[slot] ?? null);
  const either = slots.map((text) => equals(along.name, along.type, text));
  const range =
    along.isTime && slots.length === 2 && !slots.includes(null)
      ? [`${column} between ${slots.map((text) => literal(along.type, text ?? "")).join(" and ")}`]
      : [`(${either.join(" or ")})`];
  const filters = [...across.map(condition), ...(slots.length === 0 ? [] : range)];
  const where = filters.length === 0 ? "" : `where ${filters.join("\n  and ")}\n`;
  return `select ${column}, count(*) as rows\nfrom ${quoteName(schema)}.${quoteName(table)}\n${where}group by ${column}\norder by ${column}`;
}

function selectFrom(schema: string, table: string): string {
  return `select *\nfrom ${quoteName(schema)}.${quoteName(table)}`;
}

function condition({ axis, slot }: Place): string {
  return equals(axis.name, axis.type, axis.slots[slot] ?? null);
}
