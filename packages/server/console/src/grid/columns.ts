/** Where columns are. Pure. */

export interface Layout {
  widths: readonly number[];
  /** The left edge of each column, and the right edge of the last. */
  edges: readonly number[];
}

export const ROW_HEIGHT = 26;
export const HEADER_HEIGHT = 44;
export const NARROWEST = 48;
const WIDEST = 360;
const GLYPH = 7.3;
const PADDING = 26;

export function layout(widths: readonly number[]): Layout {
  const edges = [0];
  for (const width of widths) edges.push((edges.at(-1) ?? 0) + width);
  return { widths, edges };
}

/** A width that fits most texts of a column, and its header. */
export function fitting(texts: readonly string[]): number {
  const longest = texts.reduce((length, text) => Math.max(length, text.length), 0);
  return Math.min(Math.max(Math.ceil(longest * GLYPH) + PADDING, NARROWEST + 24), WIDEST);
}

/** The columns that a view from `left` sees: from the first to before the last. */
export function visible({ edges }: Layout, left: number, width: number): { first: number; end: number } {
  const columns = edges.length - 1;
  const first = edges.findLastIndex((edge) => edge <= left);
  const past = edges.findIndex((edge) => edge >= left + width);
  return {
    first: Math.min(Math.max(first, 0), Math.max(columns - 1, 0)),
    end: past === -1 ? columns : Math.min(past, columns),
  };
}
