/** Where a table's asset is in Dagster's UI. */

import type { TableDetail } from "../api/types";
import { catalog } from "../state/catalog";
import { webLink } from "../ui/format";

/** The asset's page; null where the service does not know Dagster's address. */
export function dagsterLink(detail: TableDetail): string | null {
  return webLink(detail.dagster_url);
}

/** A partition's place on the asset's page; the page alone where its key in Dagster cannot be told from the columns. */
export function partitionLink(detail: TableDetail, values: ReadonlyMap<string, string | null>): string | null {
  const link = dagsterLink(detail);
  const names = [...detail.partition_columns].sort(); // Dagster's own order of dimensions
  const isKnown = names.every((name) => values.get(name) && /^(string|date32)/.test(typeOf(detail, name)));
  if (link === null || !isKnown) return link;
  return `${link}?view=partitions&partition=${encodeURIComponent(names.map((name) => values.get(name)).join("|"))}`;
}

function typeOf(detail: TableDetail, column: string): string {
  return detail.columns.find(({ name }) => name === column)?.type ?? "";
}

export function runLink(detail: TableDetail, runId: string): string | null {
  const environment = catalog.value?.environments.find(({ name }) => name === detail.environment);
  const base = webLink(environment?.dagster_url);
  return base === null ? null : `${base.replace(/\/$/, "")}/runs/${encodeURIComponent(runId)}`;
}
