/** The list of a table's partitions, newest first. */

import { useMemo, useState } from "preact/hooks";
import type { TableDetail } from "../api/types";
import type { Partitions } from "../map/model";
import { equals, quoteName } from "../sql/literals";
import { now } from "../state/clock";
import { openAndRun } from "../state/tabs";
import { ago, bytes, count, plural } from "../ui/format";
import { runLink } from "./dagster";

const SHOWN = 200;

export function PartitionList({ detail, partitions }: { detail: TableDetail; partitions: Partitions }) {
  const [search, setSearch] = useState("");
  const rows = useMemo(() => matching(partitions, search), [partitions, search]);
  return (
    <section class="card">
      <h3>
        Partition list <span class="muted">{plural(rows.length, "partition")}</span>
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
            {rows.slice(0, SHOWN).map((row) => (
              <tr key={row}>
                <td>
                  <button
                    type="button"
                    class="link"
                    onClick={() => openAndRun(query(detail, partitions, row), partitions.keys[row] ?? detail.name)}
                  >
                    {partitions.keys[row]}
                  </button>
                </td>
                <td class="is-number">{count(partitions.rows[row])}</td>
                <td class="is-number">{bytes(partitions.bytes[row])}</td>
                <td class="nowrap">{ago(partitions.materializedAt[row] ?? null, now.value)}</td>
                <td>
                  <RunId detail={detail} id={partitions.runIds[row] ?? null} />
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {rows.length > SHOWN && <p class="quiet-note">The first {SHOWN} are listed: filter by key, or use the map.</p>}
    </section>
  );
}

function matching(partitions: Partitions, search: string): number[] {
  const text = search.toLowerCase();
  const rows = Array.from({ length: partitions.length }, (_, row) => row).filter((row) =>
    (partitions.keys[row] ?? "").toLowerCase().includes(text),
  );
  return rows.sort((a, b) => (partitions.materializedAt[b] ?? 0) - (partitions.materializedAt[a] ?? 0));
}

function query(detail: TableDetail, { columns }: Partitions, row: number): string {
  const filters = columns.map(({ name, type, values }) => equals(name, type, values[row] ?? null));
  return `select *\nfrom ${quoteName(detail.schema)}.${quoteName(detail.name)}\nwhere ${filters.join("\n  and ")}`;
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
