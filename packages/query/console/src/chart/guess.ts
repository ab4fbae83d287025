/** Which chart suits a result. Pure. */

export type Mark = "bar" | "line" | "scatter";
export type Kind = "number" | "time" | "text";

export interface Choice {
  mark: Mark;
  x: number;
  y: readonly number[];
  /** The column whose values become lines of their own. */
  series: number | null;
}

/** A first choice for columns of these kinds; null when there is no number to draw. */
export function guess(kinds: readonly Kind[]): Choice | null {
  const numbers = indices(kinds, "number");
  const time = kinds.indexOf("time");
  const text = kinds.indexOf("text");
  if (time >= 0 && numbers.length > 0) {
    return { mark: "line", x: time, y: text >= 0 ? numbers.slice(0, 1) : numbers.slice(0, 4), series: text >= 0 ? text : null };
  }
  if (text >= 0 && numbers.length > 0) return { mark: "bar", x: text, y: numbers.slice(0, 1), series: null };
  const [first, second] = numbers;
  if (first === undefined) return null;
  return { mark: second === undefined ? "line" : "scatter", x: first, y: [second ?? first], series: null };
}

function indices(kinds: readonly Kind[], kind: Kind): number[] {
  return kinds.flatMap((each, index) => (each === kind ? [index] : []));
}
