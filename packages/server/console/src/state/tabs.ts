/** The open tabs: statements, tables, and the queries that run. They survive a reload. */

import { type Signal, batch, effect, signal } from "@preact/signals";
import type { EngineChoice } from "../api/types";
import { statementAt } from "../sql/statements";
import { remember } from "./history";
import { Run, type RunStatement } from "./run";
import { hasSpark } from "./session";
import { load, saveHere } from "./storage";

export type ResultView = "rows" | "chart" | "scan";

export class SqlTab {
  readonly kind = "sql";
  readonly name: Signal<string>;
  readonly text: Signal<string>;
  /** The time or event id of the field "as of", as it was typed. */
  readonly asOf: Signal<string>;
  readonly run = signal<Run | null>(null);
  readonly view = signal<ResultView>("rows");

  constructor(
    readonly id: string,
    name: string,
    text: string,
    asOf = "",
  ) {
    this.name = signal(name);
    this.text = signal(text);
    this.asOf = signal(asOf);
  }
}

export class TableTab {
  readonly kind = "table";
  readonly id: string;

  constructor(
    readonly schema: string,
    readonly table: string,
  ) {
    this.id = `table:${schema}.${table}`;
  }
}

export class QueriesTab {
  readonly kind = "queries";
  readonly id = "queries";
}

export type Tab = SqlTab | TableTab | QueriesTab;

interface Stored {
  active: string;
  limitRows: number;
  engine?: EngineChoice | null;
  tabs: (
    | { kind: "sql"; id: string; name: string; text: string; asOf?: string }
    | { kind: "table"; schema: string; table: string }
    | { kind: "queries" }
  )[];
}

export const ROW_LIMITS = [1_000, 10_000, 100_000, 1_000_000, 5_000_000];
export const ENGINES: readonly EngineChoice[] = ["local", "spark", "auto"];
const WELCOME = "select 1 as answer";

const NOTHING: Stored = { active: "", limitRows: 1_000_000, tabs: [] };
const stored = load("tabs", NOTHING);
const first = restored(stored);

/** `crypto.randomUUID` is missing where the service is reached by plain HTTP from another machine. */
function newId(): string {
  return `sql:${Date.now().toString(36)}${Math.random().toString(36).slice(2)}`;
}

function restored({ tabs: kept }: Stored): Tab[] {
  const open = kept.map((tab): Tab => {
    if (tab.kind === "sql") return new SqlTab(tab.id, tab.name, tab.text, tab.asOf);
    return tab.kind === "table" ? new TableTab(tab.schema, tab.table) : new QueriesTab();
  });
  return open.length > 0 ? open : [new SqlTab(newId(), "Query 1", WELCOME)];
}

export const tabs = signal<readonly Tab[]>(first);
export const activeId = signal(first.some((tab) => tab.id === stored.active) ? stored.active : (first[0]?.id ?? ""));
export const limitRows = signal(ROW_LIMITS.includes(stored.limitRows) ? stored.limitRows : 1_000_000);
/** The engine of the select beside Run; null for the one that the service is configured to use. */
export const engine = signal(ENGINES.find((each) => each === stored.engine) ?? null);
/** False when the browser has no room left, or forbids storage. */
export const isSaved = signal(true);

export function activeTab(): Tab | undefined {
  return tabs.value.find((tab) => tab.id === activeId.value);
}

export function openTab(tab: Tab): void {
  batch(() => {
    if (!tabs.peek().some(({ id }) => id === tab.id)) tabs.value = [...tabs.peek(), tab];
    activeId.value = tab.id;
  });
}

export function openSql(text = "", name = nextName(), asOf = ""): SqlTab {
  const tab = new SqlTab(newId(), name, text, asOf);
  openTab(tab);
  return tab;
}

export function openTable(schema: string, table: string): void {
  openTab(new TableTab(schema, table));
}

export function closeTab(id: string): void {
  const place = tabs.peek().findIndex((tab) => tab.id === id);
  const closed = tabs.peek()[place];
  if (closed === undefined) return;
  if (closed.kind === "sql") closed.run.peek()?.cancel();
  batch(() => {
    const left = tabs.peek().filter((tab) => tab.id !== id);
    tabs.value = left.length > 0 ? left : [new SqlTab(newId(), "Query 1", "")];
    if (activeId.peek() === id) activeId.value = tabs.peek()[Math.min(place, tabs.peek().length - 1)]?.id ?? "";
  });
}

export function moveActive(step: number): void {
  const place = tabs.peek().findIndex((tab) => tab.id === activeId.peek());
  const count = tabs.peek().length;
  activeId.value = tabs.peek()[(place + step + count) % count]?.id ?? activeId.peek();
}

function nextName(): string {
  const taken = new Set(tabs.peek().map((tab) => (tab.kind === "sql" ? tab.name.peek() : "")));
  for (let number = 1; ; number += 1) if (!taken.has(`Query ${number}`)) return `Query ${number}`;
}

/** Run a tab's selection, or else the statement under its cursor. */
export async function runTab(tab: SqlTab, selection: { from: number; to: number }): Promise<void> {
  const statement = statementAt(tab.text.peek(), selection.from, selection.to);
  if (statement !== null)
    await runStatement(tab, {
      ...statement,
      asOf: tab.asOf.peek().trim(),
      engine: hasSpark.peek() ? engine.peek() : null,
    });
}

async function runStatement(tab: SqlTab, statement: RunStatement): Promise<void> {
  tab.run.peek()?.cancel();
  const run = new Run(statement, limitRows.peek());
  tab.run.value = run;
  if (tab.view.peek() === "chart") tab.view.value = "rows";
  const at = Date.now();
  await run.start();
  remember({
    sql: statement.sql,
    at,
    ms: Math.round(run.elapsedMs),
    rows: run.rows?.length ?? 0,
    outcome: run.phase.peek() === "finished" ? "finished" : run.phase.peek() === "cancelled" ? "cancelled" : "failed",
  });
}

/** Open a statement in a tab of its own and run it. */
export function openAndRun(text: string, name: string): void {
  const tab = openSql(text, name);
  void runTab(tab, { from: 0, to: text.length });
}

export function keepTabs(): void {
  let timer = 0;
  const write = (): void => {
    const kept = tabs.peek().map((tab) => {
      if (tab.kind === "sql") {
        const [name, text, asOf] = [tab.name.peek(), tab.text.peek(), tab.asOf.peek()];
        return { kind: tab.kind, id: tab.id, name, text, asOf };
      }
      return tab.kind === "table" ? { kind: tab.kind, schema: tab.schema, table: tab.table } : { kind: tab.kind };
    });
    isSaved.value = saveHere("tabs", {
      active: activeId.peek(),
      limitRows: limitRows.peek(),
      engine: engine.peek(),
      tabs: kept,
    });
  };
  effect(() => {
    for (const tab of tabs.value) if (tab.kind === "sql") void [tab.name.value, tab.text.value, tab.asOf.value];
    void [activeId.value, limitRows.value, engine.value];
    clearTimeout(timer);
    timer = window.setTimeout(write, 250);
  });
  addEventListener("pagehide", write);
}
