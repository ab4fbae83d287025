/** Where a table's asset is in Dagster's UI. */

import type { TableDetail } from "../api/types";
import { catalog } from "../state/catalog";
import { webLink } from "../ui/format";

/** The asset's page; null where the service does not know Dagster's address. */
export function dagsterLink(detail: TableDetail): string | null {
  return webLink(detail.dagster_url);
}

export function runLink(detail: TableDetail, runId: string): string | null {
  const environment = catalog.value?.environments.find(({ name }) => name === detail.environment);
  const base = webLink(environment?.dagster_url);
  return base === null ? null : `${base.replace(/\/$/, "")}/runs/${encodeURIComponent(runId)}`;
}
