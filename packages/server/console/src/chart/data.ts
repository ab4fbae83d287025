/** Rows as the columns that a chart draws. */

import { cellNumber, cellText, isNumeric, isTemporal } from "../grid/values";
import type { Rows } from "../state/rows";
import type { Choice, ColumnFacts, Kind } from "./guess";

const MOST_POINTS = 200_000;
const MOST_SERIES = 12;

export interface Drawable {
  /** The column along x. */
  name: string;
  /** x of each point: seconds for a time, a place in `labels` for text, else the number. */
  x: number[];
  labels: string[] | null;
  isTime: boolean;
  series: { name: string; y: (number | null)[] }[];
  /** What the drawing leaves out or adds up, in words; empty when nothing. */
  left: string[];
}

export function kinds(rows: Rows): Kind[] {
  return rows.schema.fields.map(({ type }) => (isTemporal(type) ? "time" : isNumeric(type) ? "number" : "text"));
}

const SAMPLE_ROWS = 1_000;

/** What a first guess has to know of the columns. */
export function facts(rows: Rows): ColumnFacts[] {
  const types = kinds(rows);
  return rows.schema.fields.map(({ name }, column) => {
    const seen = new Set<string>();
    for (let row = 0; row < Math.min(rows.length, SAMPLE_ROWS); row += 1) seen.add(textAt(rows, row, column));
    return { name, kind: types[column] ?? "text", distinct: seen.size };
  });
}

export function drawable(rows: Rows, choice: Choice): Drawable {
  const kind = kinds(rows)[choice.x];
  const count = Math.min(rows.length, MOST_POINTS);
  const left = rows.length > count ? [`the first ${MOST_POINTS.toLocaleString("en-US")} rows are drawn`] : [];
  const labels: string[] | null = kind === "text" ? [] : null;
  const places = new Map<string, number>();
  const xs: (number | null)[] = [];
  for (let row = 0; row < count; row += 1) {
    const { data, index } = rows.at(row, choice.x);
    xs.push(labels === null ? cellNumber(data, index) : placeOf(textAt(rows, row, choice.x), places, labels));
  }
  const lines = choice.mark === "scatter" ? scattered(rows, choice, xs) : summed(rows, choice, xs);
  const name = rows.schema.fields[choice.x]?.name ?? "";
  if (lines.isSummed) left.push(`rows of the same ${name} are added up`);
  if (lines.series.length > MOST_SERIES) left.push(`${MOST_SERIES} of ${lines.series.length} series are drawn`);
  return { name, x: lines.x, labels, isTime: kind === "time", series: lines.series.slice(0, MOST_SERIES), left };
}

interface Lines extends Pick<Drawable, "x" | "series"> {
  /** Whether a point stands for more than one row. */
  isSummed: boolean;
}

/** One point for each x of a line: what several rows of it say adds up. */
function summed(rows: Rows, choice: Choice, xs: readonly (number | null)[]): Lines {
  const lines = new Map<string, Map<number, number>>();
  let isSummed = false;
  each(rows, choice, xs, (line, x, y) => {
    const points = lines.get(line) ?? new Map<number, number>();
    lines.set(line, points);
    isSummed ||= points.has(x);
    points.set(x, (points.get(x) ?? 0) + y);
  });
  const x = [...new Set(xs.filter((value) => value !== null))].sort((a, b) => a - b);
  const series = [...lines].map(([name, points]) => ({ name, y: x.map((value) => points.get(value) ?? null) }));
  return { x, series, isSummed };
}

/** One point for each row. */
function scattered(rows: Rows, choice: Choice, xs: readonly (number | null)[]): Lines {
  const points: { line: string; x: number; y: number }[] = [];
  each(rows, choice, xs, (line, x, y) => points.push({ line, x, y }));
  points.sort((a, b) => a.x - b.x);
  const names = [...new Set(points.map(({ line }) => line))];
  return {
    isSummed: false,
    x: points.map(({ x }) => x),
    series: names.map((name) => ({ name, y: points.map(({ line, y }) => (line === name ? y : null)) })),
  };
}

function each(
  rows: Rows,
  choice: Choice,
  xs: readonly (number | null)[],
  take: (line: string, x: number, y: number) => void,
): void {
  const name = rows.schema.fields[choice.y]?.name ?? "";
  xs.forEach((x, row) => {
    const { data, index } = rows.at(row, choice.y);
    const y = cellNumber(data, index);
    if (x !== null && y !== null) take(choice.series === null ? name : textAt(rows, row, choice.series), x, y);
  });
}

function textAt(rows: Rows, row: number, column: number): string {
  const { data, index } = rows.at(row, column);
  return (cellText(data, index) ?? "NULL") || "(empty)";
}

function placeOf(text: string, places: Map<string, number>, labels: string[]): number {
  const known = places.get(text);
  if (known !== undefined) return known;
  places.set(text, labels.length);
  labels.push(text);
  return labels.length - 1;
}
