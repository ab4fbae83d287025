/** The partition that a link names: its query is opened as by a click on it. If it is missing, a message says so. */

import { useEffect } from "preact/hooks";
import type { TableDetail } from "../api/types";
import type { Partitions } from "../map/model";
import { rowQuery } from "../map/query";
import { linkedPartition } from "../state/link";
import { openAndRun } from "../state/tabs";
import { ProblemView } from "../ui/problem";

export function LinkedPartition({ detail, partitions }: { detail: TableDetail; partitions: Partitions | null }) {
  const wanted = linkedPartition.value;
  const key = wanted?.table === `${detail.schema}.${detail.name}` ? wanted.partition : null;
  const row = key === null || partitions === null ? null : rowOf(partitions, key);
  useEffect(() => {
    if (key === null || partitions === null || row === null) return;
    linkedPartition.value = null;
    openAndRun(rowQuery(detail.schema, detail.name, partitions, row), key);
  }, [key, partitions, row]);
  const isKnown = partitions !== null || detail.partition_columns.length === 0;
  if (key === null || row !== null || !isKnown || detail.problem !== null) return null;
  return (
    <ProblemView code="unknown_partition" message={`The table has no partition “${key}”.`}>
      <button type="button" class="button" onClick={() => (linkedPartition.value = null)}>
        Dismiss
      </button>
    </ProblemView>
  );
}

function rowOf(partitions: Partitions, key: string): number | null {
  for (let row = 0; row < partitions.length; row += 1) if (partitions.keyOf(row) === key) return row;
  return null;
}
