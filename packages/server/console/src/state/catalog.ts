/** The catalog as last received from the service, and the details of tables that were opened. */

import { signal } from "@preact/signals";
import { api, tokenWanted } from "../api/client";
import { requestOrder } from "../api/order";
import { type ServiceProblem, toProblem } from "../api/problem";
import type { Catalog, TableDetail, TableSummary } from "../api/types";

const EVERY_MS = 15_000;
const AGAIN_MS = 3_000; // while the service does not answer

export const catalog = signal<Catalog | null>(null);
export const catalogProblem = signal<ServiceProblem | null>(null);
export const details = signal<ReadonlyMap<string, TableDetail>>(new Map());

export function fullName(table: { schema: string; name: string }): string {
  return `${table.schema}.${table.name}`;
}

const asking = requestOrder();

export async function refreshCatalog(): Promise<void> {
  const isLatest = asking();
  try {
    const fresh = await api.catalog();
    if (!isLatest()) return;
    if (fresh !== null) {
      forgetChanged(fresh.tables);
      catalog.value = fresh;
    }
    catalogProblem.value = null;
  } catch (error) {
    if (isLatest()) catalogProblem.value = toProblem(error);
  }
}

/** Drop the details of tables that were materialized since. */
function forgetChanged(fresh: TableSummary[]): void {
  const times = new Map(fresh.map((table) => [fullName(table), table.materialized_at] as const));
  const kept = [...details.peek()].filter(([name, detail]) => times.get(name) === detail.materialized_at);
  if (kept.length !== details.peek().size) details.value = new Map(kept);
}

const waiting = new Map<string, Promise<TableDetail>>();

export function tableDetail(schema: string, name: string): Promise<TableDetail> {
  const key = `${schema}.${name}`;
  const cached = details.peek().get(key);
  if (cached !== undefined) return Promise.resolve(cached);
  const request = waiting.get(key) ?? fetchDetail(key, schema, name);
  waiting.set(key, request);
  return request;
}

async function fetchDetail(key: string, schema: string, name: string): Promise<TableDetail> {
  try {
    const detail = await api.table(schema, name);
    details.value = new Map(details.peek()).set(key, detail);
    return detail;
  } finally {
    waiting.delete(key);
  }
}

export function followCatalog(): void {
  let askedAt = Date.now();
  const look = (): void => {
    const isDue = catalogProblem.peek() !== null || Date.now() - askedAt >= EVERY_MS;
    if (document.hidden || tokenWanted.peek() !== null || !isDue) return;
    askedAt = Date.now();
    void refreshCatalog();
  };
  setInterval(look, AGAIN_MS);
  addEventListener("online", look);
  document.addEventListener("visibilitychange", look);
}
