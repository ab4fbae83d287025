/** The rows in view. */

import type { JSX } from "preact";
import type { Rows } from "../state/rows";
import { HEADER_HEIGHT, type Layout, ROW_HEIGHT, visible } from "./columns";
import type { Scroll } from "./scroll";
import { type Cell, type Selection, rectangle } from "./selection";
import { cellText, isNumeric } from "./values";

const OVERSCAN = 4;
const LONGEST_SHOWN = 500;
const LONGEST_TITLE = 2_000;

interface Props {
  rows: Rows;
  columns: Layout;
  numbers: number;
  scroll: Scroll;
  left: number;
  view: { width: number; height: number };
  selection: Selection | null;
  onSelect: (selection: Selection) => void;
}

export function GridBody({ rows, columns, numbers, scroll, left, view, selection, onSelect }: Props) {
  const first = Math.max(Math.floor(scroll.top / ROW_HEIGHT) - OVERSCAN, 0);
  const end = Math.min(Math.ceil((scroll.top + view.height) / ROW_HEIGHT) + OVERSCAN, rows.length);
  const shift = HEADER_HEIGHT + scroll.bar - scroll.top;
  const seen = visible(columns, left, view.width);

  const onPointer = (event: PointerEvent): void => {
    const isDrag = event.type === "pointermove";
    if (isDrag ? event.buttons !== 1 || event.pointerType !== "mouse" || selection === null : event.button !== 0)
      return;
    const cell = cellOf(event.target as Element);
    if (cell === null) return;
    const extends_ = selection !== null && (isDrag || event.shiftKey);
    if (isDrag && selection?.cursor.row === cell.row && selection.cursor.column === cell.column) return;
    onSelect({ anchor: extends_ ? selection.anchor : cell, cursor: cell });
  };

  const lines: JSX.Element[] = [];
  for (let row = first; row < end; row += 1) {
    lines.push(
      <div
        key={row}
        class={`grid-row ${row % 2 === 1 ? "is-odd" : ""}`}
        role="row"
        aria-rowindex={row + 2}
        style={{ transform: `translateY(${row * ROW_HEIGHT + shift}px)` }}
      >
        <div class="grid-number" role="rowheader" style={{ width: `${numbers}px` }}>
          {(row + 1).toLocaleString("en-US", { useGrouping: false })}
        </div>
        <Cells rows={rows} row={row} columns={columns} numbers={numbers} {...seen} selection={selection} />
      </div>,
    );
  }
  return (
    <div class="grid-body" role="presentation" onPointerDown={onPointer} onPointerMove={onPointer}>
      {lines}
    </div>
  );
}

interface CellsProps {
  rows: Rows;
  row: number;
  columns: Layout;
  numbers: number;
  first: number;
  end: number;
  selection: Selection | null;
}

function Cells({ rows, row, columns, numbers, first, end, selection }: CellsProps) {
  const area = selection === null ? null : rectangle(selection);
  const cells: JSX.Element[] = [];
  for (let column = first; column < end; column += 1) {
    const { data, index } = rows.at(row, column);
    const text = cellText(data, index);
    const isSelected =
      area !== null && row >= area.top && row <= area.bottom && column >= area.left && column <= area.right;
    const isCursor = selection?.cursor.row === row && selection.cursor.column === column;
    cells.push(
      <div
        key={column}
        id={`cell-${row}-${column}`}
        class={`grid-cell ${isNumeric(data.type) ? "is-number" : ""} ${isSelected ? "is-selected" : ""} ${isCursor ? "is-cursor" : ""}`}
        role="gridcell"
        aria-colindex={column + 1}
        aria-selected={isSelected}
        data-row={row}
        data-column={column}
        title={text?.slice(0, LONGEST_TITLE) ?? "NULL"}
        style={{ left: `${numbers + (columns.edges[column] ?? 0)}px`, width: `${columns.widths[column]}px` }}
      >
        <Text text={text} />
      </div>,
    );
  }
  return <>{cells}</>;
}

function Text({ text }: { text: string | null }) {
  if (text === null) return <span class="is-null">NULL</span>;
  if (text === "") return <span class="is-empty">empty</span>;
  return <>{text.length > LONGEST_SHOWN ? `${text.slice(0, LONGEST_SHOWN)}…` : text}</>;
}

function cellOf(element: Element): Cell | null {
  const cell = element.closest<HTMLElement>(".grid-cell");
  return cell === null ? null : { row: Number(cell.dataset["row"]), column: Number(cell.dataset["column"]) };
}
