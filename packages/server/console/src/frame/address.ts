/** The part of the console's address behind `#`: a link of Dagster's events, or the time or event id of a tab. Pure. */

export interface Linked {
  /** The table's full name. */
  table: string;
  /** Dagster's key of a partition. */
  partition: string | null;
}

const LONGEST = 2_000;
const AS_OF = /^[0-9TZ:.+ -]{1,40}$/i;

/** The table and partition that a hash names; null if it names no table. Other fields are ignored. */
export function linkedBy(hash: string): Linked | null {
  if (hash.length > LONGEST) return null;
  const fields = new URLSearchParams(hash.replace(/^#/, ""));
  const table = fields.get("table");
  return table ? { table, partition: fields.get("partition") || null } : null;
}

/** The time or event id that a hash has; null if there is none. */
export function asOfIn(hash: string): string | null {
  if (hash.length > LONGEST) return null;
  const asOf = new URLSearchParams(hash.replace(/^#/, "")).get("as_of");
  return asOf !== null && AS_OF.test(asOf) ? asOf : null;
}

/** The hash that keeps a time or event id; empty if there is none. */
export function hashOf(asOf: string): string {
  return AS_OF.test(asOf) ? `#${new URLSearchParams({ as_of: asOf }).toString()}` : "";
}
