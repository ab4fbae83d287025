/** What a copy takes. Pure. */

import type { Rows } from "../state/rows";
import { plural } from "../ui/format";
import { MOST_CELLS, type Selection, field, rectangle, size, toTsv } from "./selection";

export interface Copied {
  /** Tab-separated; null when it is too much for a clipboard. */
  text: string | null;
  notice: string;
}

/** The selected cells; without a selection all rows, under the columns' names. */
export function copied(rows: Rows, selection: Selection | null): Copied {
  const { fields } = rows.schema;
  const all = { top: 0, left: 0, bottom: rows.length - 1, right: fields.length - 1 };
  const area = selection === null ? all : rectangle(selection);
  const cells = size(area);
  if (cells > MOST_CELLS)
    return { text: null, notice: `Too much to copy: ${plural(cells, "cell")}. Download the result instead.` };
  if (selection !== null) return { text: toTsv(rows, area), notice: `Copied ${plural(cells, "cell")}` };
  const names = fields.map(({ name }) => field(name)).join("\t");
  return { text: `${names}\n${toTsv(rows, area)}`, notice: `Copied ${plural(rows.length, "row")}` };
}
