/** The virtualized grid: only the cells in view are elements. */

import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Rows } from "../state/rows";
import { GridBody } from "./body";
import { HEADER_HEIGHT, ROW_HEIGHT, fitting, layout } from "./columns";
import { copied } from "./copied";
import { GridHeader } from "./header";
import { saveGridState, gridStateOf } from "./grid-state";
import { at, moved as scrolled, spacer } from "./scroll";
import { type Selection, moved } from "./selection";
import { cellText, typeName } from "./values";

const SAMPLE_ROWS = 100;
const NUMBER_GLYPH = 7.6;

interface Props {
  rows: Rows;
  /** Counts up as rows come. */
  version: number;
  onCopied: (text: string) => void;
}

export function Grid({ rows, version, onCopied }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const view = useSize(box);
  const [before] = useState(() => gridStateOf(rows));
  const [scroll, setScroll] = useState(before.scroll);
  const [left, setLeft] = useState(before.left);
  const [selection, setSelection] = useState(before.selection);
  const [resized, setResized] = useState(before.resized);

  const hasRows = rows.length > 0;
  const fitted = useMemo(() => rows.schema.fields.map((_, column) => fittedWidth(rows, column)), [rows, hasRows]);
  const columns = useMemo(() => layout(fitted.map((width, column) => resized.get(column) ?? width)), [fitted, resized]);
  const numbers = Math.ceil(String(rows.length).length * NUMBER_GLYPH) + 22;

  const content = rows.length * ROW_HEIGHT;
  const bodyHeight = Math.max(view.height - HEADER_HEIGHT, 0);
  const last = useRef(scroll);
  last.current = scroll;

  useLayoutEffect(() => box.current?.scrollTo(before.left, before.scroll.bar), [before]);
  // Not after the next paint, when another tab may have taken the place of this one.
  useLayoutEffect(
    () => saveGridState(rows, { scroll, left, selection, resized }),
    [rows, scroll, left, selection, resized],
  );

  const scrollTo = (top: number): void => {
    const next = at(top, content, bodyHeight);
    setScroll(next);
    if (box.current !== null) box.current.scrollTop = next.bar;
  };

  const onScroll = (event: Event): void => {
    const { scrollTop, scrollLeft } = event.currentTarget as HTMLElement;
    setLeft(scrollLeft);
    if (scrollTop !== last.current.bar) setScroll(scrolled(last.current, scrollTop, content, bodyHeight));
  };

  const reveal = ({ cursor }: Selection): void => {
    const top = cursor.row * ROW_HEIGHT;
    if (top < scroll.top) scrollTo(top);
    else if (top + ROW_HEIGHT > scroll.top + bodyHeight) scrollTo(top + ROW_HEIGHT - bodyHeight);
    const [from, to] = [columns.edges[cursor.column] ?? 0, columns.edges[cursor.column + 1] ?? 0];
    const element = box.current;
    if (element === null) return;
    if (from < element.scrollLeft) element.scrollLeft = from;
    else if (to + numbers > element.scrollLeft + view.width) element.scrollLeft = to + numbers - view.width;
  };

  const select = (next: Selection): void => {
    setSelection(next);
    reveal(next);
  };

  const onCopy = (event: ClipboardEvent): void => {
    if (selection === null) return;
    event.preventDefault();
    const { text, notice } = copied(rows, selection);
    if (text !== null) event.clipboardData?.setData("text/plain", text);
    onCopied(notice);
  };

  const onKeyDown = (event: KeyboardEvent): void => {
    const far = event.ctrlKey || event.metaKey;
    const whole = {
      anchor: { row: 0, column: 0 },
      cursor: { row: rows.length - 1, column: rows.schema.fields.length - 1 },
    };
    if (!hasRows || event.altKey) return;
    if (far && event.key.toLowerCase() === "a") setSelection(whole);
    else {
      const cursor = selection?.cursor ?? { row: 0, column: 0 };
      const page = Math.max(Math.floor(bodyHeight / ROW_HEIGHT) - 1, 1);
      const next =
        selection === null && event.key.startsWith("Arrow")
          ? cursor
          : moved(cursor, event.key, far, page, rows.length, whole.cursor.column + 1);
      if (next === null) return;
      select({ anchor: event.shiftKey && selection !== null ? selection.anchor : next, cursor: next });
    }
    event.preventDefault();
  };

  const cursorId = selection === null ? undefined : `cell-${selection.cursor.row}-${selection.cursor.column}`;
  return (
    <div
      ref={box}
      class="grid"
      role="grid"
      tabIndex={0}
      aria-label="Result rows"
      aria-rowcount={rows.length + 1}
      aria-colcount={rows.schema.fields.length}
      aria-activedescendant={cursorId}
      aria-multiselectable
      onScroll={onScroll}
      onKeyDown={onKeyDown}
      onCopy={onCopy}
      data-version={version}
    >
      <div
        class="grid-sizer"
        role="presentation"
        style={{ height: `${spacer(content) + HEADER_HEIGHT}px`, width: `${(columns.edges.at(-1) ?? 0) + numbers}px` }}
      >
        <GridHeader
          fields={rows.schema.fields}
          columns={columns}
          numbers={numbers}
          left={left}
          viewWidth={view.width}
          onResize={(column, width) => setResized(new Map(resized).set(column, width))}
          onFit={(column) => setResized(new Map(resized).set(column, fittedWidth(rows, column, scroll.top)))}
        />
        <GridBody
          rows={rows}
          columns={columns}
          numbers={numbers}
          scroll={scroll}
          left={left}
          view={{ width: view.width, height: bodyHeight }}
          selection={selection}
          onSelect={select}
        />
      </div>
    </div>
  );
}

function fittedWidth(rows: Rows, column: number, top = 0): number {
  const field = rows.schema.fields[column];
  if (field === undefined) return 0;
  const first = Math.floor(top / ROW_HEIGHT);
  const sample = Array.from({ length: Math.min(rows.length - first, SAMPLE_ROWS) }, (_, place) => {
    const { data, index } = rows.at(first + place, column);
    return cellText(data, index) ?? "NULL";
  });
  return fitting([field.name, typeName(field.type), ...sample]);
}

function useSize(box: { current: HTMLElement | null }): { width: number; height: number } {
  const [view, setView] = useState({ width: 0, height: 0 });
  useLayoutEffect(() => {
    const element = box.current;
    if (element !== null) setView({ width: element.clientWidth, height: element.clientHeight });
  }, []);
  useEffect(() => {
    const element = box.current;
    if (element === null) return undefined;
    const observer = new ResizeObserver(() => setView({ width: element.clientWidth, height: element.clientHeight }));
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  return view;
}
