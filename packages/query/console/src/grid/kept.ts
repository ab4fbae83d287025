/** How a result's grid was left: other views and tabs come between, and the rows stay. */

import type { Rows } from "../state/rows";
import type { Scroll } from "./scroll";
import type { Selection } from "./selection";

export interface Kept {
  scroll: Scroll;
  left: number;
  selection: Selection | null;
  resized: ReadonlyMap<number, number>;
}

const FRESH: Kept = { scroll: { top: 0, bar: 0 }, left: 0, selection: null, resized: new Map() };
const all = new WeakMap<Rows, Kept>();

export function keptOf(rows: Rows): Kept {
  return all.get(rows) ?? FRESH;
}

export function keep(rows: Rows, kept: Kept): void {
  all.set(rows, kept);
}
