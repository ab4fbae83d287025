/** The statements that were run in this browser, newest first. */

import { signal } from "@preact/signals";
import { load, save } from "./storage";

export interface Past {
  sql: string;
  at: number;
  ms: number;
  rows: number;
  outcome: "finished" | "failed" | "cancelled";
}

const LONGEST = 200;
const LONGEST_TEXT = 20_000;

export const history = signal<readonly Past[]>(load<Past[]>("history", []));

export function remember(past: Past): void {
  if (past.sql.length > LONGEST_TEXT) return;
  const others = history.peek().filter((entry) => entry.sql !== past.sql);
  history.value = [past, ...others].slice(0, LONGEST);
  save("history", history.peek());
}

export function forgetHistory(): void {
  history.value = [];
  save("history", []);
}
