/** Which chart suits a result. Pure. */

export type Mark = "bar" | "line" | "scatter";
export type Kind = "number" | "time" | "text";

export interface Choice {
  mark: Mark;
  x: number;
  y: number;
  /** The column whose values become lines of their own. */
  series: number | null;
}

export interface ColumnFacts {
  name: string;
  kind: Kind;
  /** Different values among the first rows. */
  distinct: number;
}

const MOST_LINES = 8;
const IDENTIFIER = /(^|_)(id|key|code|npi|zip|uuid|year|number|no)$/i;

/** A first choice for a result of these columns; null when there is no number to draw. */
export function guess(columns: readonly ColumnFacts[]): Choice | null {
  const numbers = [
    ...indices(columns, "number", (name) => !IDENTIFIER.test(name)),
    ...indices(columns, "number", (name) => IDENTIFIER.test(name)),
  ];
  const [first, second] = numbers;
  if (first === undefined) return null;
  const time = columns.findIndex(({ kind }) => kind === "time");
  const texts = indices(columns, "text");
  const series = fewest(columns, texts);
  if (time >= 0) return { mark: "line", x: time, y: first, series };
  const [label] = texts;
  if (label !== undefined) return { mark: "bar", x: label, y: first, series: null };
  return second === undefined
    ? { mark: "line", x: first, y: first, series: null }
    : { mark: "scatter", x: Math.min(first, second), y: Math.max(first, second), series: null };
}

/** The text column that makes the fewest lines, but more than one. */
function fewest(columns: readonly ColumnFacts[], texts: readonly number[]): number | null {
  const lines = (column: number): number => columns[column]?.distinct ?? 0;
  const usable = texts.filter((column) => lines(column) > 1 && lines(column) <= MOST_LINES);
  return usable.sort((a, b) => lines(a) - lines(b))[0] ?? null;
}

function indices(
  columns: readonly ColumnFacts[],
  kind: Kind,
  isWanted: (name: string) => boolean = () => true,
): number[] {
  return columns.flatMap((column, index) => (column.kind === kind && isWanted(column.name) ? [index] : []));
}
