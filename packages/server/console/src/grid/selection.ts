/** A rectangle of cells, from where it began to where the cursor is. Pure. */

import type { Rows } from "../state/rows";
import { cellText } from "./values";

export interface Cell {
  row: number;
  column: number;
}

export interface Selection {
  anchor: Cell;
  cursor: Cell;
}

export interface Rectangle {
  top: number;
  bottom: number;
  left: number;
  right: number;
}

/** Cells that one copy takes at most: a clipboard of more makes the browser stand still. */
export const MOST_CELLS = 2_000_000;

export function rectangle({ anchor, cursor }: Selection): Rectangle {
  return {
    top: Math.min(anchor.row, cursor.row),
    bottom: Math.max(anchor.row, cursor.row),
    left: Math.min(anchor.column, cursor.column),
    right: Math.max(anchor.column, cursor.column),
  };
}

export function size({ top, bottom, left, right }: Rectangle): number {
  return (bottom - top + 1) * (right - left + 1);
}

/** The rectangle as tab-separated values; NULL is an empty field. */
export function toTsv(rows: Rows, { top, bottom, left, right }: Rectangle): string {
  const lines: string[] = [];
  for (let row = top; row <= bottom; row += 1) {
    const fields: string[] = [];
    for (let column = left; column <= right; column += 1) {
      const { data, index } = rows.at(row, column);
      fields.push(field(cellText(data, index) ?? ""));
    }
    lines.push(fields.join("\t"));
  }
  return lines.join("\n");
}

export function field(text: string): string {
  return /[\t\n\r"]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

const MOVES: Record<string, [rows: number, columns: number]> = {
  ArrowUp: [-1, 0],
  ArrowDown: [1, 0],
  ArrowLeft: [0, -1],
  ArrowRight: [0, 1],
};

/** Where a key moves the cursor; null for a key that does not. */
export function moved(
  cursor: Cell,
  key: string,
  far: boolean,
  page: number,
  rows: number,
  columns: number,
): Cell | null {
  const clamp = (cell: Cell): Cell => ({
    row: Math.min(Math.max(cell.row, 0), rows - 1),
    column: Math.min(Math.max(cell.column, 0), columns - 1),
  });
  const move = MOVES[key];
  if (move !== undefined) {
    const [down, right] = far ? [move[0] * rows, move[1] * columns] : move;
    return clamp({ row: cursor.row + down, column: cursor.column + right });
  }
  if (key === "PageUp" || key === "PageDown")
    return clamp({ ...cursor, row: cursor.row + (key === "PageUp" ? -page : page) });
  if (key === "Home") return { row: far ? 0 : cursor.row, column: 0 };
  if (key === "End") return { row: far ? rows - 1 : cursor.row, column: columns - 1 };
  return null;
}
