/** What a tab's last run gave: rows, chart, scan, or why not. */

import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { Chart } from "../chart/chart";
import { Grid } from "../grid/grid";
import { ScanView } from "../scan/scan";
import type { Stats } from "../api/types";
import type { Run } from "../state/run";
import { hasSpark } from "../state/session";
import type { ResultView, SqlTab } from "../state/tabs";
import { useKeptFocus } from "../ui/focus";
import { count, duration, percent, plural } from "../ui/format";
import { Icon, type IconName } from "../ui/icons";
import { MOD } from "../ui/platform";
import { notify } from "../ui/notice";
import { ProblemView } from "../ui/problem";
import { Copy } from "./copy";
import { Download } from "./download";

const VIEWS: readonly [view: ResultView, name: string, icon: IconName][] = [
  ["rows", "Rows", "rows"],
  ["chart", "Chart", "chart"],
  ["scan", "Scan", "scan"],
];

const ENGINE_OF_PATH: Record<string, string> = {
  splice: "local engine",
  staged: "local engine",
  catalog: "local engine",
  cache: "kept result",
  spark: "Spark engine",
};

export function ResultPane({ tab }: { tab: SqlTab }) {
  const run = tab.run.value;
  if (run === null) {
    return (
      <div class="result is-blank">
        <p class="quiet-note">
          <kbd>{MOD}</kbd> <kbd>Enter</kbd> runs the statement at the cursor, or the selection.
        </p>
      </div>
    );
  }
  return <Result tab={tab} run={run} />;
}

function Result({ tab, run }: { tab: SqlTab; run: Run }) {
  const bar = useRef<HTMLDivElement>(null);
  const body = useRef<HTMLDivElement>(null);
  useKeptFocus(bar, "button, summary");
  useKeptFocus(body, "[role=grid]"); // of the next run
  const view = tab.view.value;
  const hasRows = run.phase.value !== "waiting" && run.rows !== null;
  return (
    <section class="result" aria-label="Result">
      <div class="result-bar" ref={bar}>
        <div class="segments" role="tablist" aria-label="Result as">
          {VIEWS.map(([each, name, icon]) => (
            <button
              key={each}
              type="button"
              role="tab"
              aria-selected={view === each}
              class="segment"
              onClick={() => (tab.view.value = each)}
            >
              <Icon name={icon} />
              {name}
            </button>
          ))}
        </div>
        <Status run={run} />
        {hasRows && view === "rows" && run.rows !== null && run.rows.length > 0 && <Copy rows={run.rows} />}
        {hasRows && <Download statement={run.statement} name={tab.name.value} />}
      </div>
      <div class="result-body" ref={body}>
        <Body run={run} view={view} />
      </div>
    </section>
  );
}

function Body({ run, view }: { run: Run; view: ResultView }) {
  const version = run.version.value;
  const problem = run.problem.value;
  const { rows } = run;
  const shown = problem !== null && (
    <ProblemView code={problem.code} message={problem.message} position={problem.position} queryId={problem.queryId} />
  );
  if (view === "scan") return <ScanView key={run.statement.sql} run={run} />;
  if (rows === null) return shown || <Waiting run={run} />;
  if (view === "chart") {
    return <Chart key={run.startedAt} rows={rows} version={run.phase.value === "streaming" ? 0 : version} />;
  }
  return (
    <>
      {shown}
      <Grid key={run.startedAt} rows={rows} version={version} onCopied={notify} />
    </>
  );
}

function Waiting({ run }: { run: Run }) {
  if (run.phase.value === "cancelled") return <p class="quiet-note">Cancelled before the first row.</p>;
  return (
    <p class="quiet-note">
      <span class="spinner" /> Running… <kbd>Esc</kbd> cancels.
    </p>
  );
}

/** One line on how it goes or went. */
function Status({ run }: { run: Run }) {
  const tick = useSignal(0);
  const isRunning = run.running;
  useEffect(() => {
    if (!isRunning) return undefined;
    const timer = setInterval(() => (tick.value += 1), 100);
    return () => clearInterval(timer);
  }, [run, isRunning]);
  void [tick.value, run.version.value];
  const stats = run.stats.value;
  const phase = run.phase.value;
  const cut = stats?.truncated ?? (phase === "finished" && run.rows?.length === run.limitRows);
  return (
    <p class="status" role="status" data-phase={phase}>
      {isRunning && <span class="spinner" />}
      {phase === "cancelled" && <span class="chip">cancelled</span>}
      {phase === "failed" && <span class="chip is-bad">failed</span>}
      {run.statement.asOf !== "" && (
        <span class="chip is-accent" title={eventsOf(stats)}>
          as of {run.statement.asOf}
        </span>
      )}
      {run.rows !== null && (
        <span data-testid="row-count">
          <b>{count(run.rows.length)}</b> {run.rows.length === 1 ? "row" : "rows"}
        </span>
      )}
      <span>{duration(run.elapsedMs)}</span>
      {phase === "finished" && run.firstRowsMs !== null && run.elapsedMs - run.firstRowsMs > 100 && (
        <span class="wide-only">first after {duration(run.firstRowsMs)}</span>
      )}
      {stats !== null && stats.files_total > 0 && (
        <span>
          {count(stats.files_read)} of {count(stats.files_total)} files
          <span class="wide-only">, {percent(stats.files_skipped, stats.files_total)} skipped</span>
        </span>
      )}
      {hasSpark.value && stats !== null && ENGINE_OF_PATH[stats.path] !== undefined && (
        <span class="chip" data-testid="engine" title="The engine that ran the query">
          {ENGINE_OF_PATH[stats.path]}
        </span>
      )}
      {cut && (
        <span class="chip is-warning" title="More rows than the limit beside Run. Download has all of them.">
          cut at the limit
        </span>
      )}
      {stats !== null && stats.warnings.length > 0 && (
        <span class="chip is-warning" data-testid="left-out" title={stats.warnings.join("\n")}>
          {plural(stats.files_left_out, "archived file")} left out
        </span>
      )}
    </p>
  );
}

/** The events that a past time stands for, one of each environment. */
function eventsOf(stats: Stats | null): string {
  const events = Object.entries(stats?.generations ?? {});
  return events.map(([environment, id]) => `The tables of ${environment} after event ${id}`).join("; ");
}
