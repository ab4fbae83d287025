/** Why a partition is not there, by what Dagster did about it. Pure. */

import type { History } from "../api/types";

export interface Reason {
  kind: "never" | "failed" | "cancelled" | "underway" | "nothing" | "deleted" | "wiped" | "unreadable";
  runId: string | null;
  /** When, as ISO 8601; null where nothing happened. */
  at: string | null;
}

const KINDS: Record<string, Reason["kind"]> = { FAILURE: "failed", CANCELED: "cancelled", SUCCESS: "nothing" };

/** What happened last: a run, a wipe, or a materialization that the catalog cannot read. */
export function reasonOf({ runs, materialized_at, wiped_at }: History): Reason {
  const run = runs[0];
  const last = Math.max(time(run?.created_at), time(materialized_at));
  if (wiped_at !== null && time(wiped_at) > last) return { kind: "wiped", runId: null, at: wiped_at };
  if (materialized_at !== null && time(materialized_at) >= time(run?.created_at))
    return { kind: "unreadable", runId: run?.run_id ?? null, at: materialized_at };
  if (run === undefined) return { kind: "never", runId: null, at: null };
  const kind = run.status === null ? "deleted" : (KINDS[run.status] ?? "underway");
  return { kind, runId: run.run_id, at: run.created_at };
}

function time(at: string | null | undefined): number {
  return at ? Date.parse(at) : Number.NEGATIVE_INFINITY;
}
