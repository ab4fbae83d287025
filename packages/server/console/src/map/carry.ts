/** Places of a map whose table has grown since: they stay with the values they stand for, not with their numbers. Pure. */

import type { Axis } from "./axis";
import type { Spot, View } from "./view";

export interface Axes {
  x: Axis;
  y: Axis;
}

/** Where a cell is on other axes; null if its values are not there. */
export function carriedSpot(from: Axes, to: Axes, { column, row }: Spot): Spot | null {
  const [x, y] = [carriedSlot(from.x, to.x, column), carriedSlot(from.y, to.y, row)];
  return x === null || y === null ? null : { column: x, row: y };
}

/** The view that begins at the same values and is as wide. One of everything stays one of everything. */
export function carriedView(from: Axes, to: Axes, { x0, x1, y0, y1 }: View): View {
  const [left, right] = carriedSpan(from.x, to.x, x0, x1);
  const [top, bottom] = carriedSpan(from.y, to.y, y0, y1);
  return { x0: left, x1: right, y0: top, y1: bottom };
}

function carriedSpan(from: Axis, to: Axis, start: number, end: number): [number, number] {
  const slots = to.slots.length;
  const first = carriedSlot(from, to, Math.floor(start));
  if (first === null || (start === 0 && end === from.slots.length)) return [0, slots];
  const span = Math.min(end - start, slots);
  const moved = Math.min(first + start - Math.floor(start), slots - span);
  return [moved, moved + span];
}

function carriedSlot(from: Axis, to: Axis, slot: number): number | null {
  if (from.name !== to.name) return null;
  return to.slotOf.get(from.slots[slot] ?? null) ?? null;
}
