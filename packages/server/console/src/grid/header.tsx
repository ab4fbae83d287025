/** The grid's columns: names, types, and handles that change their widths. */

import type { Field } from "apache-arrow";
import { type Layout, NARROWEST, visible } from "./columns";
import { isNumeric, typeName } from "./values";

interface Props {
  fields: readonly Field[];
  columns: Layout;
  numbers: number;
  left: number;
  viewWidth: number;
  onResize: (column: number, width: number) => void;
  onFit: (column: number) => void;
}

export function GridHeader({ fields, columns, numbers, left, viewWidth, onResize, onFit }: Props) {
  const { first, end } = visible(columns, left, viewWidth);
  const drag = (down: PointerEvent, column: number): void => {
    const handle = down.currentTarget as HTMLElement;
    const start = columns.widths[column] ?? NARROWEST;
    const move = (event: PointerEvent): void =>
      onResize(column, Math.max(start + event.clientX - down.clientX, NARROWEST));
    handle.setPointerCapture(down.pointerId);
    handle.addEventListener("pointermove", move);
    handle.addEventListener("lostpointercapture", () => handle.removeEventListener("pointermove", move), {
      once: true,
    });
    down.preventDefault();
  };
  return (
    <div class="grid-header" role="row" aria-rowindex={1}>
      <div class="grid-corner" style={{ width: `${numbers}px` }} />
      {fields.slice(first, end).map((field, place) => {
        const column = first + place;
        return (
          <div
            key={column}
            class={`grid-column ${isNumeric(field.type) ? "is-number" : ""}`}
            role="columnheader"
            aria-colindex={column + 1}
            style={{ left: `${numbers + (columns.edges[column] ?? 0)}px`, width: `${columns.widths[column]}px` }}
            title={`${field.name}: ${typeName(field.type)}`}
          >
            <span class="grid-column-name">{field.name}</span>
            <span class="grid-column-type">{typeName(field.type)}</span>
            <span
              class="grid-handle"
              aria-hidden="true"
              title="Drag to resize, double-click to fit"
              onPointerDown={(event) => drag(event, column)}
              onDblClick={() => onFit(column)}
            />
          </div>
        );
      })}
    </div>
  );
}
