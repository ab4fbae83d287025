/** That the last run failed: what it was to materialize is missing, and may lie beyond the ends of the map. */

import { useEffect, useState } from "preact/hooks";
import { api } from "../api/client";
import type { History, TableDetail } from "../api/types";
import { now } from "../state/clock";
import { ago } from "../ui/format";
import { Icon } from "../ui/icons";
import { RunName } from "./dagster";

const ENDS: Record<string, string> = { FAILURE: "failed", CANCELED: "was cancelled" };

export function LastRun({ detail }: { detail: TableDetail }) {
  const [history, setHistory] = useState<History | null>(null);
  useEffect(() => {
    let isCurrent = true;
    api.history(detail.schema, detail.name).then(
      (latest) => isCurrent && setHistory(latest),
      () => null, // the page is as good without
    );
    return () => {
      isCurrent = false;
    };
  }, [detail]);
  const run = history?.runs[0];
  const end = ENDS[run?.status ?? ""];
  const isLater = Date.parse(run?.created_at ?? "") > Date.parse(detail.materialized_at ?? "");
  if (run === undefined || end === undefined || !isLater) return null;
  return (
    <p class="warning-line">
      <Icon name="warning" />
      <span>
        The last <RunName detail={detail} id={run.run_id} />, {ago(run.created_at, now.value)}, {end}: what it was to
        materialize may be missing.
      </span>
    </p>
  );
}
