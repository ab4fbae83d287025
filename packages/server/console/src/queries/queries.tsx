/** Queries that run in the service, those that ran, and this browser's history. */

import { useSignal } from "@preact/signals";
import { useEffect, useMemo, useRef } from "preact/hooks";
import { api, tokenWanted } from "../api/client";
import { requestOrder } from "../api/order";
import { type ServiceProblem, toProblem } from "../api/problem";
import type { QueryInfo } from "../api/types";
import { now } from "../state/clock";
import { forgetHistory, history } from "../state/history";
import { session } from "../state/session";
import { openSql } from "../state/tabs";
import { useKeptFocus } from "../ui/focus";
import { ago, bytes, count, dollars, duration, plural } from "../ui/format";
import { Icon } from "../ui/icons";
import { notify } from "../ui/notice";
import { ProblemView } from "../ui/problem";

const EVERY_MS = 1_000;

export function QueriesPage() {
  const queries = useSignal<readonly QueryInfo[] | null>(null);
  const problem = useSignal<ServiceProblem | null>(null);
  const older = useSignal<readonly QueryInfo[]>([]);
  const isEnd = useSignal(false);
  const at = useSignal(Date.now());
  const asking = useMemo(requestOrder, []);
  const page = useRef<HTMLDivElement>(null);
  useKeptFocus(page, "button", sameQuery);
  const refresh = async (): Promise<void> => {
    if (document.hidden || tokenWanted.peek() !== null) return;
    const isLatest = asking();
    try {
      const answer = await api.queries();
      if (!isLatest()) return;
      queries.value = answer;
      problem.value = null;
    } catch (error) {
      if (!isLatest()) return;
      problem.value = toProblem(error);
    }
    at.value = Date.now();
  };
  useEffect(() => {
    void refresh();
    const timer = setInterval(() => void refresh(), EVERY_MS);
    return () => clearInterval(timer);
  }, []);
  const running = queries.value?.filter(isRunning) ?? [];
  const recent = queries.value?.filter((query) => !isRunning(query)) ?? [];
  const known = new Set(recent.map((query) => query.id));
  const over = [...recent, ...older.value.filter((query) => !known.has(query.id))];
  const showOlder = async (): Promise<void> => {
    const last = over.at(-1)?.ended_at;
    if (last === null || last === undefined) return;
    try {
      const found = await api.queries(last);
      older.value = [...over, ...found];
      isEnd.value = found.length === 0;
    } catch (error) {
      notify(toProblem(error).message);
    }
  };
  const cancel = async (id: string): Promise<void> => {
    await api.cancel(id).then(
      () => notify("Cancelled"),
      (error: unknown) => notify(toProblem(error).message),
    );
    await refresh();
  };
  return (
    <div class="page queries-page" ref={page}>
      {problem.value !== null && <ProblemView code={problem.value.code} message={problem.value.message} />}
      <section class="card">
        <h3>
          Running <span class="muted">{count(running.length)}</span>
        </h3>
        {queries.value !== null && running.length === 0 && (
          <p class="quiet-note">
            {session.value?.everything === false ? "None of your queries runs." : "No query runs."}
          </p>
        )}
        {running.map((query) => (
          <Item key={query.id} query={query} at={at.value} onCancel={() => void cancel(query.id)} />
        ))}
      </section>
      <section class="card">
        <h3>
          Finished <span class="muted">{count(over.length)}</span>
        </h3>
        {over.map((query) => (
          <Item key={query.id} query={query} at={at.value} />
        ))}
        {over.length >= 100 && !isEnd.value && (
          <button type="button" class="button is-small" onClick={() => void showOlder()}>
            Older queries
          </button>
        )}
      </section>
      <History />
    </div>
  );
}

/** A query that ended is listed elsewhere: the focus goes to its statement there. */
function sameQuery(buttons: HTMLElement[], _: number, lost: HTMLElement): HTMLElement | undefined {
  const query = queryOf(lost);
  return query === undefined ? undefined : buttons.find((button) => queryOf(button) === query);
}

function queryOf(button: HTMLElement): string | undefined {
  return button.closest<HTMLElement>("[data-query]")?.dataset["query"];
}

function isRunning({ state }: QueryInfo): boolean {
  return state === "queued" || state === "running" || state === "streaming";
}

const STATE_CHIPS: Partial<Record<QueryInfo["state"], string>> = {
  failed: "is-bad",
  queued: "is-warning",
  finished: "is-accent",
};

function Item({ query, at, onCancel }: { query: QueryInfo; at: number; onCancel?: () => void }) {
  const elapsed =
    onCancel === undefined ? query.stats.total_s * 1000 : Math.max(at - Date.parse(query.submitted_at), 0);
  return (
    <article class="query-item" data-query={query.id}>
      <button
        type="button"
        class="query-sql"
        title="Open in a new tab"
        onClick={() => void openSql(query.sql, undefined, query.as_of ?? "")}
      >
        {query.sql}
      </button>
      <p class="query-facts">
        <span class={`chip ${STATE_CHIPS[query.state] ?? ""}`}>{query.state}</span>
        <span>{duration(elapsed)}</span>
        {query.as_of !== null && <span class="chip is-accent">as of {query.as_of}</span>}
        <span>{query.user}</span>
        <span class="muted">{query.door}</span>
        <span class="muted">{ago(query.submitted_at, at)}</span>
        {query.stats.rows > 0 && <span class="muted">{plural(query.stats.rows, "row")}</span>}
        {query.stats.bytes_read > 0 && <span class="muted">{bytes(query.stats.bytes_read)} read</span>}
        {query.cost !== null && (
          <span class="muted" title={`Requests and time on a worker, at prices of ${query.cost.prices_date}`}>
            {dollars((query.cost.requests_usd ?? 0) + query.cost.worker_usd)}
          </span>
        )}
      </p>
      {query.error !== null && <p class="query-error">{query.error.message}</p>}
      {onCancel !== undefined && (
        <button type="button" class="button is-small is-danger" onClick={onCancel}>
          <Icon name="stop" /> Cancel
        </button>
      )}
    </article>
  );
}

function History() {
  const past = history.value;
  return (
    <section class="card" aria-label="History">
      <h3>
        History of this browser <span class="muted">{count(past.length)}</span>
        {past.length > 0 && (
          <button type="button" class="link" onClick={forgetHistory}>
            forget it
          </button>
        )}
      </h3>
      {past.length === 0 && <p class="quiet-note">What you run here is listed, and stays in this browser.</p>}
      {past.map((entry) => (
        <article key={`${entry.at}`} class="query-item">
          <button type="button" class="query-sql" title="Open in a new tab" onClick={() => void openSql(entry.sql)}>
            {entry.sql}
          </button>
          <p class="query-facts">
            <span class={`chip ${STATE_CHIPS[entry.outcome] ?? ""}`}>{entry.outcome}</span>
            <span>{duration(entry.ms)}</span>
            <span class="muted">{plural(entry.rows, "row")}</span>
            <span class="muted">{ago(entry.at, now.value)}</span>
          </p>
        </article>
      ))}
    </section>
  );
}
