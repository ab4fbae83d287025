/** What a query read, and why it skipped the rest. */

import { useEffect } from "preact/hooks";
import { ServiceProblem } from "../api/problem";
import type { ExplainedScan, Filter, ScanStats, Stats } from "../api/types";
import type { Run } from "../state/run";
import { bytes, count, duration, percent, plural } from "../ui/format";
import { ProblemView } from "../ui/problem";
import { phases } from "./times";

const PATHS: Record<string, string> = {
  splice: "DataFusion's own Parquet scan over exactly these files",
  staged: "the plan does not serialize: the tables' rows were written to local files first",
  catalog: "answered from the catalog, no file was opened",
  cache: "the kept result of an equal query",
  spark: "the Spark Connect server ran it; files and bytes are those that the plan here keeps",
};

export function ScanView({ run }: { run: Run }) {
  useEffect(() => void run.explain(), [run]);
  const stats = run.stats.value;
  const explained = run.explanation.value;
  const explanation = explained instanceof ServiceProblem ? null : explained;
  const scans: readonly (ScanStats | ExplainedScan)[] = explanation?.scans ?? stats?.scans ?? [];
  return (
    <div class="scan" tabIndex={0} role="region" aria-label="Scan">
      {explained instanceof ServiceProblem && (
        <ProblemView code={explained.code} message={explained.message} position={explained.position} />
      )}
      {stats !== null && <Facts stats={stats} />}
      {stats !== null && <Times stats={stats} />}
      {scans.map((scan, index) => (
        <TableScan key={index} scan={scan} />
      ))}
      {explanation !== null && scans.length === 0 && <p class="quiet-note">The statement names no table.</p>}
      {explained === null && <p class="quiet-note">Explaining…</p>}
      {explanation !== null && (
        <>
          <Plan title="Logical plan" text={explanation.logical} />
          <Plan title="Physical plan" text={explanation.physical} />
        </>
      )}
    </div>
  );
}

function Facts({ stats }: { stats: Stats }) {
  const facts: { name: string; value: string; note?: string | undefined }[] = [
    { name: "rows", value: count(stats.rows), note: stats.truncated ? "cut at the limit" : undefined },
    {
      name: "files read",
      value: `${count(stats.files_read)} of ${count(stats.files_total)}`,
      note: stats.files_total > 0 ? `${percent(stats.files_skipped, stats.files_total)} skipped` : undefined,
    },
    { name: "bytes read", value: bytes(stats.bytes_read) },
    { name: "S3 requests", value: stats.requests === null ? "not counted" : count(stats.requests) },
    { name: "result", value: bytes(stats.result_bytes) },
    { name: "path", value: stats.path || "–" },
  ];
  return (
    <dl class="facts">
      {facts.map(({ name, value, note }) => (
        <div key={name} title={name === "path" ? PATHS[value] : undefined}>
          <dt>{name}</dt>
          <dd>
            {value}
            {note !== undefined && <small>{note}</small>}
          </dd>
        </div>
      ))}
    </dl>
  );
}

function Times({ stats }: { stats: Stats }) {
  const parts = phases(stats);
  return (
    <section class="card">
      <h3>
        Time <span class="muted">{duration(stats.total_s * 1000)}</span>
      </h3>
      <div class="times-bar" role="img" aria-label={parts.map(({ name, ms }) => `${name} ${duration(ms)}`).join(", ")}>
        {parts.map(({ name, ms }, index) => (
          <span key={name} class={`time-${index}`} style={{ flexGrow: ms }} title={`${name}: ${duration(ms)}`} />
        ))}
      </div>
      <ul class="times-list">
        {parts.map(({ name, ms }, index) => (
          <li key={name}>
            <span class={`swatch time-${index}`} />
            {name} <b>{duration(ms)}</b>
          </li>
        ))}
      </ul>
    </section>
  );
}

/** Where a scan reads its objects, as words. */
function sourcesOf(scan: ExplainedScan): string[] {
  const numbered: [number, string, string][] = [
    [scan.copies_found, scan.copies_found === 1 ? "local copy" : "local copies", ""],
    [scan.objects_to_fetch, scan.objects_to_fetch === 1 ? "object" : "objects", " to fetch"],
    [scan.blocks_to_fetch, scan.blocks_to_fetch === 1 ? "block" : "blocks", " to fetch"],
    [scan.objects_in_place, scan.objects_in_place === 1 ? "object" : "objects", " in place"],
  ];
  return numbered.filter(([number]) => number > 0).map(([number, things, end]) => `${count(number)} ${things}${end}`);
}

function TableScan({ scan }: { scan: ScanStats | ExplainedScan }) {
  const skipped = scan.files_total - scan.files_read;
  const filters = "filters" in scan ? scan.filters : [];
  const partitions = "partitions" in scan ? scan.partitions : [];
  const consolidated = "consolidated" in scan ? scan.consolidated : 0;
  const objects = "large_objects" in scan ? scan.large_objects.length : 0;
  const sources = "copies_found" in scan ? sourcesOf(scan) : [];
  return (
    <section class="card" aria-label={`Scan of ${scan.table}`}>
      <h3>
        <code>{scan.table}</code>
        <span class="muted">
          {bytes(scan.bytes_kept)} of {bytes(scan.bytes_total)}
        </span>
      </h3>
      <Proportion kept={scan.files_read} total={scan.files_total} />
      <p class="proportion-text">
        <b>{plural(scan.files_read, "partition")} read</b>, {count(skipped)} of {count(scan.files_total)} skipped (
        {percent(skipped, scan.files_total)})
        {consolidated > 0 && `, ${count(consolidated)} of them from ${plural(objects, "large object")}`}
        {scan.files_left_out > 0 && `; ${plural(scan.files_left_out, "archived file")} left out`}
      </p>
      {sources.length > 0 && <p class="proportion-text muted">from {sources.join(", ")}</p>}
      {filters.length > 0 && (
        <table class="plain">
          <thead>
            <tr>
              <th>filter</th>
              <th>decided by</th>
              <th class="is-number">skips alone</th>
            </tr>
          </thead>
          <tbody>
            {filters.map((filter) => (
              <FilterRow key={filter.text} filter={filter} scan={scan} />
            ))}
          </tbody>
        </table>
      )}
      {partitions.length > 0 && (
        <details>
          <summary>
            {plural(partitions.length, "partition")} read
            {scan.files_read > partitions.length ? ` (the first of ${count(scan.files_read)})` : ""}
          </summary>
          <p class="keys">
            {partitions.map((key, index) => (
              <code key={index}>{key ?? "unpartitioned"}</code>
            ))}
          </p>
        </details>
      )}
    </section>
  );
}

function FilterRow({ filter, scan }: { filter: Filter; scan: ScanStats }) {
  return (
    <tr>
      <td>
        <code>{filter.text.replaceAll(`${scan.table}.`, "")}</code>
      </td>
      <td>
        <span class={`chip ${filter.skipped > 0 ? "is-accent" : ""}`}>
          {filter.by === "nothing" ? "each row, while read" : filter.by}
        </span>
      </td>
      <td class="is-number">
        {count(filter.skipped)} <span class="muted">{percent(filter.skipped, scan.files_total)}</span>
      </td>
    </tr>
  );
}

function Proportion({ kept, total }: { kept: number; total: number }) {
  return (
    <div class="proportion" role="img" aria-label={`${kept} of ${total} partitions read`}>
      {kept > 0 && <span class="proportion-kept" style={{ flexGrow: kept }} />}
      {total > kept && <span class="proportion-skipped" style={{ flexGrow: total - kept }} />}
    </div>
  );
}

function Plan({ title, text }: { title: string; text: string }) {
  return (
    <details class="card plan">
      <summary>{title}</summary>
      <pre>{text}</pre>
    </details>
  );
}
