/** Where a table's asset and its runs are in Dagster's UI. */

import type { TableDetail } from "../api/types";
import { catalog } from "../state/catalog";
import { webLink } from "../ui/format";

/** The asset's page; null where the service does not know Dagster's address. */
export function dagsterLink(detail: TableDetail): string | null {
  return webLink(detail.dagster_url);
}

/** A partition's place on the asset's page; the page alone where its key is not known. */
export function partitionLink(detail: TableDetail, key: string | null): string | null {
  const link = dagsterLink(detail);
  return link === null || key === null ? link : `${link}?view=partitions&partition=${encodeURIComponent(key)}`;
}

export function runLink(detail: TableDetail, runId: string): string | null {
  const environment = catalog.value?.environments.find(({ name }) => name === detail.environment);
  const base = webLink(environment?.dagster_url);
  return base === null ? null : `${base.replace(/\/$/, "")}/runs/${encodeURIComponent(runId)}`;
}

/** A run, with its page where it is known. */
export function RunName({ detail, id }: { detail: TableDetail; id: string }) {
  const link = runLink(detail, id);
  const text = <code>{id.slice(0, 8)}</code>;
  return (
    <>
      run{" "}
      {link === null ? (
        text
      ) : (
        <a href={link} target="_blank" rel="noreferrer">
          {text}
        </a>
      )}
    </>
  );
}
