/** The scroll position, selection and column widths of each result's grid, kept while other views and tabs are shown. */

import type { Rows } from "../state/rows";
import type { Scroll } from "./scroll";
import type { Selection } from "./selection";

export interface GridState {
  scroll: Scroll;
  left: number;
  selection: Selection | null;
  resized: ReadonlyMap<number, number>;
}

const FRESH: GridState = { scroll: { top: 0, bar: 0 }, left: 0, selection: null, resized: new Map() };
const all = new WeakMap<Rows, GridState>();

export function gridStateOf(rows: Rows): GridState {
  return all.get(rows) ?? FRESH;
}

export function saveGridState(rows: Rows, state: GridState): void {
  all.set(rows, state);
}
