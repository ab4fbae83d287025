/** Which part of a map is in view, in slots, and how large a slot is. Pure. */

export interface View {
  x0: number;
  x1: number;
  y0: number;
  y1: number;
}

export interface Spot {
  column: number;
  row: number;
}

export interface Frame {
  /** CSS pixels of the canvas, and of the margins beside the plot. */
  width: number;
  height: number;
  left: number;
  bottom: number;
}

const WIDEST_CELL = 30;
const TALLEST_CELL = 22;
const FEWEST_SLOTS = 4;
const MARGIN_BOTTOM = 26;
const BARS_HEIGHT = 150;

export function whole(columns: number, rows: number): View {
  return { x0: 0, x1: columns, y0: 0, y1: rows };
}

/** The canvas for a map of so many columns and rows in a room of that width and height. */
export function frameOf(columns: number, rows: number, left: number, room: { width: number; height: number }): Frame {
  const plotWidth = Math.max(Math.min(room.width - left, columns * WIDEST_CELL), 40);
  const plotHeight =
    rows === 1 ? BARS_HEIGHT : Math.max(Math.min(room.height - MARGIN_BOTTOM, rows * TALLEST_CELL), 40);
  return { width: left + plotWidth, height: plotHeight + MARGIN_BOTTOM, left, bottom: MARGIN_BOTTOM };
}

export function plot({ width, height, left, bottom }: Frame): { width: number; height: number } {
  return { width: width - left, height: height - bottom };
}

/** The slot under a point of the canvas; null beside the plot. */
export function slotAt(view: View, frame: Frame, x: number, y: number): Spot | null {
  const { width, height } = plot(frame);
  const [right, down] = [(x - frame.left) / width, y / height];
  if (right < 0 || right >= 1 || down < 0 || down >= 1) return null;
  return {
    column: Math.floor(view.x0 + right * (view.x1 - view.x0)),
    row: Math.floor(view.y0 + down * (view.y1 - view.y0)),
  };
}

/** Where a slot is on the canvas, cut to the plot. */
export function boxOf(
  view: View,
  frame: Frame,
  column: number,
  row: number,
): { left: number; top: number; width: number; height: number } {
  const { width, height } = plot(frame);
  const [w, h] = [width / (view.x1 - view.x0), height / (view.y1 - view.y0)];
  const left = Math.max((column - view.x0) * w, 0);
  const top = Math.max((row - view.y0) * h, 0);
  const right = Math.min((column + 1 - view.x0) * w, width);
  const bottom = Math.min((row + 1 - view.y0) * h, height);
  return { left: left + frame.left, top, width: Math.max(right - left, 0), height: Math.max(bottom - top, 0) };
}

/** The view zoomed around a slot. */
export function zoomed(view: View, columns: number, rows: number, factor: number, column: number, row: number): View {
  const [x0, x1] = stretched(view.x0, view.x1, columns, factor, column);
  const [y0, y1] = rows <= 60 ? [0, rows] : stretched(view.y0, view.y1, rows, factor, row);
  return { x0, x1, y0, y1 };
}

export function panned(view: View, columns: number, rows: number, right: number, down: number): View {
  const dx = Math.min(Math.max(right, -view.x0), columns - view.x1);
  const dy = Math.min(Math.max(down, -view.y0), rows - view.y1);
  return { x0: view.x0 + dx, x1: view.x1 + dx, y0: view.y0 + dy, y1: view.y1 + dy };
}

/** The view moved, no more than needed, so that a slot is in it. */
export function revealing(view: View, columns: number, rows: number, column: number, row: number): View {
  const right = column < view.x0 ? column - view.x0 : column + 1 > view.x1 ? column + 1 - view.x1 : 0;
  const down = row < view.y0 ? row - view.y0 : row + 1 > view.y1 ? row + 1 - view.y1 : 0;
  return right === 0 && down === 0 ? view : panned(view, columns, rows, right, down);
}

function stretched(from: number, to: number, slots: number, factor: number, around: number): [number, number] {
  const span = Math.min(Math.max((to - from) / factor, Math.min(FEWEST_SLOTS, slots)), slots);
  const share = (around - from) / (to - from);
  const start = Math.min(Math.max(around - share * span, 0), slots - span);
  return [start, start + span];
}
