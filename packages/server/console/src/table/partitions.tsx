/** The list of a table's partitions, newest first. */

import { useMemo, useState } from "preact/hooks";
import type { TableDetail } from "../api/types";
import type { Partitions } from "../map/model";
import { rowQuery } from "../map/query";
import { now } from "../state/clock";
import { openAndRun } from "../state/tabs";
import { ago, bytes, count, plural } from "../ui/format";
import { runLink } from "./dagster";

const SHOWN = 200;

export function PartitionList({ detail, partitions }: { detail: TableDetail; partitions: Partitions }) {
  const [search, setSearch] = useState("");
  const { found, shown } = useMemo(() => newest(partitions, search), [partitions, search]);
  return (
    <section class="card">
      <h3>
        Partition list <span class="muted">{plural(found, "partition")}</span>
        <input
          class="small-search"
          type="search"
          placeholder="Filter by key"
          aria-label="Filter partitions"
          value={search}
          onInput={({ currentTarget }) => setSearch(currentTarget.value)}
        />
      </h3>
      <div class="table-scroll">
        <table class="plain">
          <thead>
            <tr>
              <th>key</th>
              <th class="is-number">rows</th>
              <th class="is-number">size</th>
              <th>materialized</th>
              <th>run</th>
            </tr>
          </thead>
          <tbody>
            {shown.map((row) => (
              <tr key={partitions.keyOf(row) ?? row}>
                <td>
                  <button
                    type="button"
                    class="link"
                    onClick={() =>
                      openAndRun(
                        rowQuery(detail.schema, detail.name, partitions, row),
                        partitions.keyOf(row) ?? detail.name,
                      )
                    }
                  >
                    {partitions.keyOf(row)}
                  </button>
                </td>
                <td class="is-number">{count(partitions.rows[row])}</td>
                <td class="is-number">{bytes(partitions.bytes[row])}</td>
                <td class="nowrap">{ago(partitions.materializedAt[row] ?? null, now.value)}</td>
                <td>
                  <RunId detail={detail} id={partitions.runIdOf(row)} />
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {found > SHOWN && <p class="quiet-note">The first {SHOWN} are listed: filter by key, or use the map.</p>}
    </section>
  );
}

/** The rows whose keys hold a text, and the newest of them. */
function newest(partitions: Partitions, search: string): { found: number; shown: number[] } {
  const text = search.toLowerCase();
  const all = Array.from({ length: partitions.length }, (_, row) => row);
  const rows = text === "" ? all : all.filter((row) => (partitions.keyOf(row) ?? "").toLowerCase().includes(text));
  const times = partitions.materializedAt;
  const last = Float64Array.from(rows, (row) => times[row] ?? 0).sort();
  const least = last.at(-Math.min(SHOWN, last.length)) ?? 0;
  const late = rows.filter((row) => (times[row] ?? 0) > least);
  const even = rows.filter((row) => times[row] === least).slice(0, SHOWN - late.length);
  return { found: rows.length, shown: [...late.sort((a, b) => (times[b] ?? 0) - (times[a] ?? 0)), ...even] };
}

function RunId({ detail, id }: { detail: TableDetail; id: string | null }) {
  if (!id) return <>–</>; // an event that was reported without a run
  const link = runLink(detail, id);
  const text = <code>{id.slice(0, 8)}</code>;
  return link === null ? (
    text
  ) : (
    <a href={link} target="_blank" rel="noreferrer">
      {text}
    </a>
  );
}
