/** The part of the console's address behind `#`, as Dagster's events link to it. Pure. */

export interface Linked {
  /** The table's full name. */
  table: string;
  /** Dagster's key of a partition. */
  partition: string | null;
}

const LONGEST = 2_000;

/** The table and partition that a hash names; null if it names no table. Other fields are ignored. */
export function linkedBy(hash: string): Linked | null {
  if (hash.length > LONGEST) return null;
  const fields = new URLSearchParams(hash.replace(/^#/, ""));
  const table = fields.get("table");
  return table ? { table, partition: fields.get("partition") || null } : null;
}
