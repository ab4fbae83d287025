/** The page of a table: its facts, its partition map, its columns, its partitions. */

import { useEffect, useRef, useState } from "preact/hooks";
import { toProblem, type ServiceProblem } from "../api/problem";
import type { TableDetail } from "../api/types";
import { PartitionMapView } from "../map/map";
import type { Partitions } from "../map/model";
import { fetchPartitions } from "../map/partitions";
import { quoteName } from "../sql/literals";
import { catalogProblem, details, tableDetail } from "../state/catalog";
import { now } from "../state/clock";
import { type TableTab, openAndRun } from "../state/tabs";
import { ago, bytes, count, percent, plural } from "../ui/format";
import { Icon } from "../ui/icons";
import { ProblemView } from "../ui/problem";
import { dagsterLink, runLink } from "./dagster";
import { LastRun } from "./last-run";
import { LinkedPartition } from "./linked";
import { PartitionList } from "./partitions";

export function TablePage({ tab }: { tab: TableTab }) {
  const [problem, setProblem] = useState<ServiceProblem | null>(null);
  const [partitions, setPartitions] = useState<Partitions | null>(null);
  const name = `${tab.schema}.${tab.table}`;
  const fresh = details.value.get(name) ?? null;
  const last = useRef(fresh);
  last.current = fresh ?? last.current; // what was shown stays until what is new is there
  const detail = last.current;

  const isUp = catalogProblem.value === null;
  useEffect(() => {
    if (!isUp) return;
    setProblem(null);
    void tableDetail(tab.schema, tab.table).catch((error: unknown) => setProblem(toProblem(error)));
  }, [name, fresh === null, isUp]);
  useEffect(() => {
    if (!isUp || detail === null || detail.problem !== null || detail.partition_columns.length === 0) return undefined;
    let isCurrent = true;
    fetchPartitions(detail).then(
      (fetched) => isCurrent && setPartitions(fetched),
      (error: unknown) => isCurrent && setProblem(toProblem(error)),
    );
    return () => {
      isCurrent = false;
    };
  }, [detail, isUp]);

  const said = problem ?? (detail === null ? catalogProblem.value : null);
  return (
    <div class="page table-page">
      {said !== null && <ProblemView code={said.code} message={said.message} />}
      {detail === null && said === null && <p class="quiet-note">…</p>}
      {detail !== null && <Head detail={detail} />}
      {detail?.problem && <ProblemView code={detail.problem.code} message={detail.problem.detail} />}
      {detail !== null && <LinkedPartition detail={detail} partitions={partitions} />}
      {detail !== null && <LastRun detail={detail} />}
      {detail?.warnings.map((warning) => (
        <p key={warning} class="warning-line">
          <Icon name="warning" /> {warning}
        </p>
      ))}
      {detail !== null && detail.partition_columns.length > 0 && detail.problem === null && (
        <section class="card">
          <h3>Partitions</h3>
          {partitions === null ? (
            <p class="quiet-note">…</p>
          ) : (
            <PartitionMapView detail={detail} partitions={partitions} />
          )}
        </section>
      )}
      {detail !== null && (
        <div class="table-columns">
          <Columns detail={detail} />
          {partitions !== null && <PartitionList detail={detail} partitions={partitions} />}
        </div>
      )}
    </div>
  );
}

function Head({ detail }: { detail: TableDetail }) {
  const link = dagsterLink(detail);
  const run = !detail.last_run_id ? null : runLink(detail, detail.last_run_id);
  const name = `${quoteName(detail.schema)}.${quoteName(detail.name)}`;
  return (
    <header class="table-head">
      <div class="table-title">
        <p class="crumbs">
          {detail.environment} <Icon name="chevron" /> {detail.schema}
        </p>
        <h2>{detail.name}</h2>
        <p class="muted asset-key">{detail.asset_key.join(" / ")}</p>
      </div>
      <div class="table-actions">
        <button
          type="button"
          class="button is-primary"
          disabled={detail.problem !== null}
          onClick={() => openAndRun(`select *\nfrom ${name}\nlimit 100`, detail.name)}
        >
          <Icon name="play" /> Query
        </button>
        {link !== null && (
          <a class="button" href={link} target="_blank" rel="noreferrer">
            Dagster <Icon name="external" />
          </a>
        )}
      </div>
      <dl class="facts">
        <div>
          <dt>rows</dt>
          <dd>{count(detail.rows)}</dd>
        </div>
        <div>
          <dt>partitions</dt>
          <dd>{detail.partition_columns.length === 0 ? "none" : count(detail.partitions)}</dd>
        </div>
        <div>
          <dt>size</dt>
          <dd>{bytes(detail.bytes)}</dd>
        </div>
        {(detail.consolidated > 0 || detail.would_gain) && (
          <div title={detail.would_gain ? `dagfusion consolidate ${detail.schema}.${detail.name}` : undefined}>
            <dt>consolidated</dt>
            <dd>
              {percent(detail.consolidated, detail.files)}
              {detail.would_gain && <small>more would make scans faster</small>}
            </dd>
          </div>
        )}
        <div title={detail.materialized_at ?? undefined}>
          <dt>materialized</dt>
          <dd>{ago(detail.materialized_at, now.value)}</dd>
        </div>
        <div>
          <dt>by run</dt>
          <dd title={detail.last_run_id ?? undefined}>
            {run === null ? (
              <code>{detail.last_run_id?.slice(0, 8) || "–"}</code>
            ) : (
              <a href={run} target="_blank" rel="noreferrer">
                <code>{detail.last_run_id?.slice(0, 8)}</code>
              </a>
            )}
          </dd>
        </div>
      </dl>
    </header>
  );
}

function Columns({ detail }: { detail: TableDetail }) {
  return (
    <section class="card">
      <h3>
        Columns <span class="muted">{plural(detail.columns.length, "column")}</span>
      </h3>
      <div class="table-scroll">
        <table class="plain">
          <tbody>
            {detail.columns.map((column) => (
              <tr key={column.name}>
                <td>
                  <code>{column.name}</code>
                </td>
                <td class="muted">{column.type}</td>
                <td>{column.partition && <span class="chip is-accent">partition</span>}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}
