/**
 * The address: links to a table and a partition, and the time or event id of the tab that is shown. Links only choose among what the
 * catalog has: no text of a link becomes a request or SQL. A time or an event id fills a field.
 */

import { computed, effect, signal } from "@preact/signals";
import { type Linked, asOfIn, hashOf, linkedBy } from "../frame/address";
import { catalog, fullName, refreshCatalog } from "./catalog";
import { activeTab, openSql, openTable } from "./tabs";

/** A link whose table is not open yet. */
const linked = signal<Linked | null>(null);
/** A link whose table is open, and whose partition is not. */
export const linkedPartition = signal<Linked | null>(null);

/** The table of a link that the catalog does not have. */
export const missingTable = computed(() => (catalog.value === null ? null : (linked.value?.table ?? null)));

export function followLinks(): void {
  effect(open);
  readLink();
  openPast();
  effect(writeAsOf);
  addEventListener("hashchange", () => {
    if (readLink()) void refreshCatalog();
    openPast();
    writeAsOf();
  });
}

export function dismissLink(): void {
  linked.value = null;
}

/** Take the link out of the address, so that a reload does not open it again and a second click does. */
function readLink(): boolean {
  const found = linkedBy(location.hash);
  if (found === null) return false;
  window.history.replaceState(null, "", location.pathname + location.search);
  linkedPartition.value = null;
  linked.value = found;
  return true;
}

/** Show a tab with the time or event id of the address: the one that is shown, if it has it. */
function openPast(): void {
  const asOf = asOfIn(location.hash);
  if (asOf !== null && asOf !== shownAsOf()) openSql("", undefined, asOf);
}

function shownAsOf(): string {
  const tab = activeTab();
  return tab?.kind === "sql" ? tab.asOf.value.trim() : "";
}

function writeAsOf(): void {
  const hash = hashOf(shownAsOf());
  if (linkedBy(location.hash) !== null || location.hash === hash) return;
  window.history.replaceState(null, "", location.pathname + location.search + hash);
}

function open(): void {
  const wanted = linked.value;
  const table = catalog.value?.tables.find((each) => fullName(each) === wanted?.table);
  if (wanted === null || table === undefined) return;
  linked.value = null;
  linkedPartition.value = wanted.partition === null ? null : wanted;
  openTable(table.schema, table.name);
}
