/** The whole result as a file: the service runs the statement again and writes the format. */

import { signal } from "@preact/signals";
import { type ApiStatement, api } from "../api/client";
import { isAbort, toProblem } from "../api/problem";
import type { DownloadFormat } from "../api/types";
import { Icon } from "../ui/icons";
import { notify } from "../ui/notice";
import { bytes } from "../ui/format";

const FORMATS: readonly [format: DownloadFormat, name: string, suffix: string][] = [
  ["csv", "CSV", "csv"],
  ["parquet", "Parquet", "parquet"],
  ["arrow", "Arrow", "arrows"],
  ["json", "JSON", "json"],
];

const going = signal<AbortController | null>(null);

async function download(statement: ApiStatement, name: string, format: DownloadFormat, suffix: string): Promise<void> {
  const abort = new AbortController();
  going.value = abort;
  try {
    const blob = await (await api.download(statement, format, abort.signal)).blob();
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = `${name.replace(/[^\p{L}\p{N}._-]+/gu, "-")}.${suffix}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    notify(`Downloaded ${bytes(blob.size)}`);
  } catch (error) {
    notify(isAbort(error) ? "Download cancelled" : `The download failed: ${toProblem(error).message}`);
  } finally {
    going.value = null;
  }
}

export function Download({ statement, name }: { statement: ApiStatement; name: string }) {
  const abort = going.value;
  if (abort !== null) {
    return (
      <button type="button" class="button is-small" onClick={() => abort.abort()}>
        <span class="spinner" /> Stop download
      </button>
    );
  }
  return (
    <details class="menu" onFocusOut={closeWhenLeft}>
      <summary class="button is-small" aria-label="Download">
        <Icon name="download" /> <span class="wide-only">Download</span>
      </summary>
      <div class="menu-list" role="menu">
        {FORMATS.map(([format, label, suffix]) => (
          <button
            key={format}
            type="button"
            role="menuitem"
            onClick={({ currentTarget }) => {
              currentTarget.closest("details")?.removeAttribute("open");
              void download(statement, name, format, suffix);
            }}
          >
            {label}
          </button>
        ))}
      </div>
    </details>
  );
}

function closeWhenLeft(event: FocusEvent): void {
  const menu = event.currentTarget as HTMLElement;
  if (!menu.contains(event.relatedTarget as Node | null)) menu.removeAttribute("open");
}
