/** Requests to the service. The token travels in a header, never in a URL. */

import { signal } from "@preact/signals";
import { problemOf } from "./problem";
import type {
  Catalog,
  DownloadFormat,
  EngineChoice,
  Explanation,
  History,
  QueryInfo,
  Session,
  TableDetail,
} from "./types";

const TOKEN = "dagfusion.token";

/** Why a token is required; null while none is. */
export const tokenWanted = signal<string | null>(null);

export function hasToken(): boolean {
  return sessionStorage.getItem(TOKEN) !== null;
}

export function setToken(token: string): void {
  sessionStorage.setItem(TOKEN, token);
}

export function forgetToken(): void {
  sessionStorage.removeItem(TOKEN);
}

async function request(path: string, options: RequestInit = {}): Promise<Response> {
  const headers = new Headers(options.headers);
  headers.set("DagFusion-Door", "console");
  const token = sessionStorage.getItem(TOKEN);
  if (token !== null) headers.set("Authorization", `Bearer ${token}`);
  const response = await fetch(path, { ...options, headers, cache: "no-store", credentials: "omit" });
  if (response.ok || response.status === 304) return response;
  const problem = await problemOf(response);
  if (problem.status === 401) tokenWanted.value = problem.message;
  throw problem;
}

function post(path: string, body: unknown, signal?: AbortSignal): Promise<Response> {
  const options = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  return request(path, signal === undefined ? options : { ...options, signal });
}

async function json<T>(answer: Promise<Response>): Promise<T> {
  return (await (await answer).json()) as T;
}

let catalogTag = "";

/** The catalog, or null while it is as it was when it came last. */
async function freshCatalog(): Promise<Catalog | null> {
  const response = await request("/v1/tables", catalogTag === "" ? {} : { headers: { "If-None-Match": catalogTag } });
  if (response.status === 304) return null;
  const fresh = (await response.json()) as Catalog;
  catalogTag = response.headers.get("ETag") ?? "";
  return fresh;
}

function tablePath(schema: string, table: string): string {
  return `/v1/tables/${encodeURIComponent(schema)}/${encodeURIComponent(table)}`;
}

export interface ApiStatement {
  sql: string;
  /** A time or an event id, whose tables the statement reads; empty for the current ones. */
  asOf: string;
  /** Null for the engine that the service is configured to use. */
  engine: EngineChoice | null;
}

function bodyOf({ sql, asOf }: ApiStatement): { sql: string; as_of?: string } {
  return asOf === "" ? { sql } : { sql, as_of: asOf };
}

function runBodyOf(statement: ApiStatement): { sql: string; as_of?: string; engine?: EngineChoice } {
  const body = bodyOf(statement);
  return statement.engine === null ? body : { ...body, engine: statement.engine };
}

export const api = {
  session: () => json<Session>(request("/v1/session")),
  catalog: freshCatalog,
  table: (schema: string, table: string) => json<TableDetail>(request(tablePath(schema, table))),
  partitions: (schema: string, table: string) => request(`${tablePath(schema, table)}/partitions?format=arrow`),
  history: (schema: string, table: string, key?: string) => {
    const query = key === undefined ? "" : `?partition_key=${encodeURIComponent(key)}`;
    return json<History>(request(`${tablePath(schema, table)}/history${query}`));
  },
  /** Those that run and the last that ended; of those that ended before a time, if one is given. */
  queries: async (before?: string) => {
    const query = before === undefined ? "" : `&before=${encodeURIComponent(before)}`;
    return (await json<{ queries: QueryInfo[] }>(request(`/v1/queries?limit=100${query}`))).queries;
  },
  query: (id: string) => json<QueryInfo>(request(`/v1/queries/${encodeURIComponent(id)}`)),
  cancel: (id: string) => json<QueryInfo>(request(`/v1/queries/${encodeURIComponent(id)}`, { method: "DELETE" })),
  explain: (statement: ApiStatement) => json<Explanation>(post("/v1/explain", bodyOf(statement))),
  sql: (statement: ApiStatement, limitRows: number, signal: AbortSignal) =>
    post("/v1/sql", { ...runBodyOf(statement), format: "arrow", limit_rows: limitRows }, signal),
  download: (statement: ApiStatement, format: DownloadFormat, signal: AbortSignal) =>
    post("/v1/sql", { ...runBodyOf(statement), format }, signal),
};
