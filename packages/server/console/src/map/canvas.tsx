/** The map's canvas, and how a pointer and a keyboard move over it. */

import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { isDark } from "../state/theme";
import { type Axes, carriedSpot, carriedView } from "./carry";
import { readColours, shadeOf } from "./colour";
import { type Metric, type PartitionMap, rangeOf } from "./model";
import { paint, short } from "./paint";
import { type Spot, type View, boxOf, frameOf, panned, plot, revealing, slotAt, whole, zoomed } from "./view";

interface Props {
  map: PartitionMap;
  metric: Metric;
  /** The hole that is being explained. */
  chosen: Spot | null;
  describe: (spot: Spot) => { place: string; facts: string };
  onChoose: (spot: Spot) => void;
}

const ZOOM = 1.6;
const LABEL_GLYPH = 6.6;
const DRAG_PIXELS = 4;
const ROOM_HEIGHT = 460;

export function Canvas({ map, metric, chosen, describe, onChoose }: Props) {
  const host = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const drag = useRef<{ x: number; y: number; view: View; moved: boolean } | null>(null);
  const [width, setWidth] = useState(0);
  const [columns, rows] = [map.x.slots.length, map.y.slots.length];
  const [spot, setSpot] = useCarried<Spot | null>(map, null, (from, to, at) => at && carriedSpot(from, to, at));
  const [view, setView] = useCarried<View>(map, whole(columns, rows), carriedView);
  const dark = isDark();
  const picture = useMemo(
    () => ({ colours: readColours(), shadeOf: shadeOf(rangeOf(map, metric), metric) }),
    [map, metric, dark],
  );
  const frame = frameOf(columns, rows, labelWidth(map), { width, height: ROOM_HEIGHT });

  useLayoutEffect(() => {
    const element = host.current;
    if (element === null) return undefined;
    setWidth(element.clientWidth); // before anyone can point at a map of another size
    const observer = new ResizeObserver(() => setWidth(element.clientWidth));
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  useLayoutEffect(() => {
    if (canvas.current !== null && width > 0) paint(canvas.current, { map, metric, view, frame, ...picture });
  }, [picture, view, width]);

  const zoom = (factor: number, around: Spot | null): void => {
    const { column, row } = around ?? { column: (view.x0 + view.x1) / 2, row: (view.y0 + view.y1) / 2 };
    setView(zoomed(view, columns, rows, factor, column, row));
  };
  const pointAt = (event: MouseEvent): Spot | null => {
    const box = canvas.current?.getBoundingClientRect();
    return box === undefined ? null : slotAt(view, frame, event.clientX - box.left, event.clientY - box.top);
  };
  const onMove = (event: PointerEvent): void => {
    const start = drag.current;
    if (start === null) {
      setSpot(pointAt(event));
      return;
    }
    const [dx, dy] = [event.clientX - start.x, event.clientY - start.y];
    start.moved ||= Math.hypot(dx, dy) > DRAG_PIXELS;
    const size = plot(frame);
    const span = { x: start.view.x1 - start.view.x0, y: start.view.y1 - start.view.y0 };
    if (start.moved)
      setView(panned(start.view, columns, rows, (-dx / size.width) * span.x, (-dy / size.height) * span.y));
  };
  const onUp = (event: PointerEvent): void => {
    const wasDrag = drag.current?.moved === true;
    const found = pointAt(event);
    if (drag.current !== null && !wasDrag && found !== null) {
      setSpot(found);
      onChoose(found);
    }
    drag.current = null;
  };
  const onWheel = (event: WheelEvent): void => {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    zoom(event.deltaY < 0 ? ZOOM : 1 / ZOOM, pointAt(event));
  };
  useEffect(() => {
    const element = canvas.current;
    element?.addEventListener("wheel", onWheel, { passive: false });
    return () => element?.removeEventListener("wheel", onWheel);
  });
  const onKeyDown = (event: KeyboardEvent): void => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const next = stepped(event.key, spot, columns, rows);
    if (next !== null) {
      setSpot(next);
      setView(revealing(view, columns, rows, next.column, next.row));
    } else if (event.key === "+" || event.key === "=") zoom(ZOOM, spot);
    else if (event.key === "-") zoom(1 / ZOOM, spot);
    else if (event.key === "0") setView(whole(columns, rows));
    else if (event.key === "Enter" && spot !== null) onChoose(spot);
    else return;
    event.preventDefault();
  };

  const description = spot === null ? null : describe(spot);
  const box = spot === null ? null : boxOf(view, frame, spot.column, spot.row);
  const marked = [box, chosen === null ? null : boxOf(view, frame, chosen.column, chosen.row)];
  const isChosen = chosen !== null && spot?.column === chosen.column && spot.row === chosen.row;
  const isZoomed = view.x1 - view.x0 < columns || view.y1 - view.y0 < rows;
  return (
    <div class="map-room" ref={host}>
      <div
        class={`map-canvas ${isZoomed ? "is-zoomed" : ""}`}
        role="application"
        aria-roledescription="partition map"
        aria-label={`${columns} by ${rows} partitions. Arrow keys move, Enter opens, plus and minus zoom.`}
        tabIndex={0}
        onKeyDown={onKeyDown}
        onPointerMove={onMove}
        onPointerLeave={() => drag.current === null && setSpot(null)}
        onPointerDown={(event) => {
          if (event.button === 0) drag.current = { x: event.clientX, y: event.clientY, view, moved: false };
        }}
        onPointerUp={onUp}
        style={{ width: `${frame.width}px`, height: `${frame.height}px` }}
      >
        <canvas ref={canvas} />
        {marked.map(
          (each) =>
            each !== null && each.width > 0 && each.height > 0 && <div class="map-cursor" style={placed(each)} />,
        )}
        {description !== null && box !== null && !isChosen && (
          <div
            class={`map-tip ${box.left > frame.width / 2 ? "is-left" : ""}`}
            style={{ left: `${box.left + box.width / 2}px`, top: `${box.top + box.height + 8}px` }}
          >
            <strong>{description.place}</strong>
            <span>{description.facts}</span>
          </div>
        )}
      </div>
      <p class="visually-hidden" role="status">
        {description === null ? "" : `${description.place}: ${description.facts}`}
      </p>
      <div class="map-zoom">
        <button
          type="button"
          class="icon-button"
          aria-label="Zoom in"
          title="Zoom in (+)"
          onClick={() => zoom(ZOOM, null)}
        >
          +
        </button>
        <button
          type="button"
          class="icon-button"
          aria-label="Zoom out"
          title="Zoom out (−)"
          disabled={!isZoomed}
          onClick={() => zoom(1 / ZOOM, null)}
        >
          −
        </button>
        <button
          type="button"
          class="icon-button"
          aria-label="Show all"
          title="Show all (0)"
          disabled={!isZoomed}
          onClick={() => setView(whole(columns, rows))}
        >
          ⤢
        </button>
      </div>
    </div>
  );
}

/** State that belongs to places of a map, and moves with them when the table grows. */
function useCarried<T>(
  { x, y }: PartitionMap,
  first: T,
  carried: (from: Axes, to: Axes, at: T) => T,
): [at: T, setAt: (at: T) => void] {
  const axes = useMemo(() => ({ x, y }), [x, y]);
  const [kept, setKept] = useState({ axes, at: first });
  const at = useMemo(() => (kept.axes === axes ? kept.at : carried(kept.axes, axes, kept.at)), [kept, axes]);
  return [at, (next) => setKept({ axes, at: next })];
}

function placed({ left, top, width, height }: ReturnType<typeof boxOf>): Record<string, string> {
  return { left: `${left}px`, top: `${top}px`, width: `${width}px`, height: `${height}px` };
}

function labelWidth({ y }: PartitionMap): number {
  if (y.name === "") return 0;
  const longest = y.slots.slice(0, 2000).reduce((length, value) => Math.max(length, short(value, 18).length), 0);
  return Math.ceil(longest * LABEL_GLYPH) + 14;
}

const STEPS: Record<string, [right: number, down: number]> = {
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, -1],
  ArrowDown: [0, 1],
  PageUp: [-30, 0],
  PageDown: [30, 0],
  Home: [Number.NEGATIVE_INFINITY, 0],
  End: [Number.POSITIVE_INFINITY, 0],
};

function stepped(key: string, spot: Spot | null, columns: number, rows: number): Spot | null {
  const step = STEPS[key];
  if (step === undefined) return null;
  if (spot === null) return { column: 0, row: 0 };
  const within = (value: number, end: number): number => Math.min(Math.max(value, 0), end - 1);
  return { column: within(spot.column + step[0], columns), row: within(spot.row + step[1], rows) };
}
