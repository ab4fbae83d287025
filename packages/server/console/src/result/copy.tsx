/** The rows, or those that are selected, into the clipboard: for hands without a keyboard, too. */

import { copied } from "../grid/copied";
import { gridStateOf } from "../grid/grid-state";
import type { Rows } from "../state/rows";
import { toClipboard } from "../ui/clipboard";
import { Icon } from "../ui/icons";
import { notify } from "../ui/notice";

async function copy(rows: Rows): Promise<void> {
  const { text, notice } = copied(rows, gridStateOf(rows).selection);
  try {
    if (text !== null) await toClipboard(text);
    notify(notice);
  } catch {
    notify("The browser does not let this page use the clipboard.");
  }
}

export function Copy({ rows }: { rows: Rows }) {
  return (
    <button
      type="button"
      class="button is-small copy"
      aria-label="Copy"
      title="Copy the selected cells, or all rows"
      onClick={() => void copy(rows)}
    >
      <Icon name="copy" /> <span class="wide-only">Copy</span>
    </button>
  );
}
