/** The chart of a result: a first guess, and what to draw instead. */

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Rows } from "../state/rows";
import { isDark } from "../state/theme";
import { drawable, facts, kinds } from "./data";
import { draw } from "./draw";
import { type Choice, type Mark, guess } from "./guess";

const MARKS: readonly Mark[] = ["bar", "line", "scatter"];

export function Chart({ rows, version }: { rows: Rows; version: number }) {
  const types = useMemo(() => kinds(rows), [rows]);
  const [choice, setChoice] = useState<Choice | null>(() => guess(facts(rows)));
  if (choice === null || rows.length === 0) {
    return (
      <p class="quiet-note">
        {rows.length === 0
          ? "There are no rows to draw."
          : "There is no number to draw: a chart needs a numeric column."}
      </p>
    );
  }
  const names = rows.schema.fields.map(({ name }) => name);
  const numbers = types.flatMap((kind, index) => (kind === "number" ? [index] : []));
  return (
    <div class="chart">
      <form class="chart-controls" aria-label="Chart" onSubmit={(event) => event.preventDefault()}>
        <div class="segments" role="radiogroup" aria-label="Mark">
          {MARKS.map((mark) => (
            <button
              key={mark}
              type="button"
              role="radio"
              aria-checked={choice.mark === mark}
              class="segment"
              onClick={() => setChoice({ ...choice, mark })}
            >
              {mark}
            </button>
          ))}
        </div>
        <Pick
          label="x"
          value={choice.x}
          columns={names.map((_, index) => index)}
          names={names}
          onPick={(x) => setChoice({ ...choice, x })}
        />
        <Pick label="y" value={choice.y} columns={numbers} names={names} onPick={(y) => setChoice({ ...choice, y })} />
        <label class="field">
          <span>series</span>
          <select
            aria-label="series"
            value={choice.series ?? ""}
            onChange={({ currentTarget }) =>
              setChoice({ ...choice, series: currentTarget.value === "" ? null : Number(currentTarget.value) })
            }
          >
            <option value="">none</option>
            {names.map((name, index) => (
              <option key={index} value={index}>
                {name}
              </option>
            ))}
          </select>
        </label>
      </form>
      <Canvas rows={rows} version={version} choice={choice} />
    </div>
  );
}

interface PickProps {
  label: string;
  value: number;
  columns: readonly number[];
  names: readonly string[];
  onPick: (column: number) => void;
}

function Pick({ label, value, columns, names, onPick }: PickProps) {
  return (
    <label class="field">
      <span>{label}</span>
      <select aria-label={label} value={value} onChange={({ currentTarget }) => onPick(Number(currentTarget.value))}>
        {columns.map((column) => (
          <option key={column} value={column}>
            {names[column]}
          </option>
        ))}
      </select>
    </label>
  );
}

function Canvas({ rows, version, choice }: { rows: Rows; version: number; choice: Choice }) {
  const host = useRef<HTMLDivElement>(null);
  const dark = isDark();
  const data = useMemo(() => drawable(rows, choice), [rows, version, choice]);
  useEffect(() => {
    const element = host.current;
    if (element === null) return undefined;
    const plot = draw(element, data, choice.mark);
    const observer = new ResizeObserver(() =>
      plot.setSize({ width: Math.max(element.clientWidth, 200), height: Math.max(element.clientHeight - 34, 160) }),
    );
    observer.observe(element);
    return () => {
      observer.disconnect();
      plot.destroy();
    };
  }, [data, choice.mark, dark]);
  return (
    <>
      <div
        class="chart-canvas"
        ref={host}
        role="img"
        aria-label={`${choice.mark} chart of ${data.series.map(({ name }) => name).join(", ")}`}
      />
      {data.left.length > 0 && <p class="chart-left">{data.left.join("; ")}</p>}
    </>
  );
}
