/** One run of one statement, from the request to its last row. */

import { signal } from "@preact/signals";
import { type ApiStatement, api } from "../api/client";
import { ServiceProblem, isAbort, toProblem } from "../api/problem";
import { BrokenStream, readArrow } from "../api/stream";
import type { Explanation, QueryInfo, Stats } from "../api/types";
import { Rows } from "./rows";

export type Phase = "waiting" | "streaming" | "finished" | "failed" | "cancelled";

export interface Statement {
  sql: string;
  /** 0-based place of the statement in the editor's text. */
  from: number;
}

export type RunStatement = Statement & ApiStatement;

export class Run {
  readonly phase = signal<Phase>("waiting");
  /** Counts up as rows come, at most once a frame. */
  readonly version = signal(0);
  readonly problem = signal<ServiceProblem | null>(null);
  readonly stats = signal<Stats | null>(null);
  readonly explanation = signal<Explanation | ServiceProblem | null>(null);
  readonly startedAt = performance.now();
  rows: Rows | null = null;
  queryId: string | null = null;
  firstRowsMs: number | null = null;
  endedMs: number | null = null;

  private readonly abort = new AbortController();
  private frame = 0;
  private hasExplained = false;

  constructor(
    readonly statement: RunStatement,
    readonly limitRows: number,
  ) {}

  get running(): boolean {
    return this.phase.value === "waiting" || this.phase.value === "streaming";
  }

  get elapsedMs(): number {
    return this.endedMs ?? performance.now() - this.startedAt;
  }

  async start(): Promise<void> {
    try {
      const response = await api.sql(this.statement, this.limitRows, this.abort.signal);
      this.queryId = response.headers.get("DagFusion-Query-Id");
      this.stats.value = statsOf(response.headers.get("DagFusion-Stats"));
      await readArrow(
        response,
        (schema) => this.open(new Rows(schema)),
        (batch) => {
          this.rows?.add(batch);
          this.changed();
        },
      );
      await this.finish();
    } catch (error) {
      await this.fail(error);
    }
  }

  cancel(): void {
    if (!this.running) return;
    if (this.queryId !== null) void api.cancel(this.queryId).catch(() => null); // leaving cancels it as well
    this.end("cancelled");
    this.abort.abort();
  }

  /** Request the explanation of the statement, once. */
  async explain(): Promise<void> {
    if (this.hasExplained) return;
    this.hasExplained = true;
    this.explanation.value = await api.explain(this.statement).catch(toProblem);
  }

  private open(rows: Rows): void {
    this.rows = rows;
    this.firstRowsMs = performance.now() - this.startedAt;
    this.phase.value = "streaming";
  }

  private changed(): void {
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      this.version.value += 1;
    });
  }

  private async finish(): Promise<void> {
    if (!this.running) return;
    this.end("finished");
    if (this.stats.value === null) this.stats.value = (await this.info())?.stats ?? null;
  }

  private async fail(error: unknown): Promise<void> {
    if (isAbort(error) || !this.running) return;
    const broken = this.queryId !== null || error instanceof BrokenStream; // the answer has begun
    const info = broken ? await this.info() : null;
    if (!this.running) return; // cancelled meanwhile
    this.stats.value = info?.stats ?? this.stats.value;
    this.problem.value = broken ? brokenBy(error, info) : toProblem(error);
    this.end(info?.state === "cancelled" || this.problem.value.code === "query_cancelled" ? "cancelled" : "failed");
  }

  private end(phase: Phase): void {
    this.endedMs = performance.now() - this.startedAt;
    this.phase.value = phase;
    this.version.value += 1;
  }

  private async info(): Promise<QueryInfo | null> {
    return this.queryId === null ? null : await api.query(this.queryId).catch(() => null);
  }
}

/** Why a stream broke, as the service knows it; else as the browser saw it. */
function brokenBy(error: unknown, info: QueryInfo | null): ServiceProblem {
  if (info?.error) return new ServiceProblem(info.error.code, info.error.message, 0, null, info.id);
  const said = error instanceof Error ? error.message : String(error);
  return new ServiceProblem(
    "broken_stream",
    `The result is incomplete, because the connection ended early: ${said}`,
    0,
  );
}

function statsOf(header: string | null): Stats | null {
  return header === null ? null : (JSON.parse(header) as Stats);
}
