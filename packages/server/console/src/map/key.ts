/** What Dagster calls a partition that is not there, by how it calls those that are. Pure. */

import type { Partitions } from "./model";

/** How a column's text is written in a key: as it is, or as Dagster writes hours. */
const WAYS: readonly ((text: string) => string)[] = [
  (text) => text,
  (text) => text.replace(/^(\d{4}-\d\d-\d\d) (\d\d:\d\d):00Z?$/, "$1-$2"),
];

/** The key of the partition with these values; null where a column is open, or the keys that are there are made otherwise. */
export function partitionKey(partitions: Partitions, values: ReadonlyMap<string, string | null>): string | null {
  const columns = [...partitions.columns].sort((a, b) => (a.name < b.name ? -1 : 1)); // Dagster's order of dimensions
  const wanted = columns.map(({ name }) => values.get(name) ?? null);
  const example = columns[0]?.values.findIndex((_, row) => columns.every(({ values: all }) => all[row] !== null)) ?? -1;
  if (example === -1 || wanted.includes(null)) return null;
  const known = columns.map((column) => column.values[example] ?? "");
  const way = WAYS.find((each) => known.map(each).join("|") === partitions.keyOf(example));
  return way === undefined ? null : wanted.map((text) => way(text ?? "")).join("|");
}
