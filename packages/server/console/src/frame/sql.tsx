/** A tab of SQL: the editor over its result. */

import { useRef } from "preact/hooks";
import { Editor, runShown } from "../editor/editor";
import { ResultPane } from "../result/result";
import type { EngineChoice } from "../api/types";
import { hasSpark, session } from "../state/session";
import { ENGINES, ROW_LIMITS, type SqlTab, engine, isSaved, limitRows } from "../state/tabs";
import { compact } from "../ui/format";
import { Icon } from "../ui/icons";
import { MOD } from "../ui/platform";
import { editorShare, keepShell } from "../state/shell";
import { Splitter } from "../ui/splitter";

export function SqlPage({ tab }: { tab: SqlTab }) {
  const page = useRef<HTMLDivElement>(null);
  const run = tab.run.value;
  const share = editorShare.value;
  const move = (pixels: number): void => {
    const height = page.current?.clientHeight ?? 1;
    editorShare.value = Math.min(Math.max(editorShare.peek() + pixels / height, 0.12), 0.85);
  };
  return (
    <div class="sql-page" ref={page}>
      <section class="editor-pane" aria-label="Editor" style={{ flexBasis: `${share * 100}%` }}>
        <div class="editor-bar">
          {run?.running ? (
            <button type="button" class="button is-danger" onClick={() => run.cancel()} title="Cancel (Esc)">
              <Icon name="stop" /> Cancel
            </button>
          ) : (
            <button type="button" class="button is-primary" onClick={runShown} title={`Run (${MOD}+Enter)`}>
              <Icon name="play" /> Run
            </button>
          )}
          {hasSpark.value && <EngineField />}
          <label class="field">
            <span>at most</span>
            <select
              value={limitRows.value}
              aria-label="Rows at most"
              onChange={({ currentTarget }) => (limitRows.value = Number(currentTarget.value))}
            >
              {ROW_LIMITS.map((rows) => (
                <option key={rows} value={rows}>
                  {compact(rows)} rows
                </option>
              ))}
            </select>
          </label>
          <label class="field" title="Read the tables as they were at a time (ISO 8601), or after an event of Dagster">
            <span>as of</span>
            <input
              type="text"
              size={21}
              value={tab.asOf.value}
              aria-label="As of a time or an event id"
              placeholder="now"
              autocomplete="off"
              spellcheck={false}
              onInput={({ currentTarget }) => (tab.asOf.value = currentTarget.value)}
              onKeyDown={(event) => {
                if (event.key === "Enter" && !event.ctrlKey && !event.metaKey) runShown();
              }}
            />
          </label>
          <span class="spacer" />
          {!isSaved.value && <span class="chip is-warning">the browser does not keep these tabs</span>}
          <span class="muted hint wide-only">
            <kbd>{MOD}</kbd> <kbd>Enter</kbd>
          </span>
        </div>
        <Editor key={tab.id} tab={tab} />
      </section>
      <Splitter label="Editor height" orientation="horizontal" value={share * 100} onMove={move} onEnd={keepShell} />
      <ResultPane key={tab.id} tab={tab} />
    </div>
  );
}

const ENGINE_NAMES: Record<EngineChoice, string> = { local: "local", spark: "Spark", auto: "auto" };

function EngineField() {
  const byDefault = session.value?.engine ?? "local";
  return (
    <label
      class="field"
      title="local: a worker of the service. Spark: the Spark Connect server. auto: Spark for large scans."
    >
      <span>engine</span>
      <select
        value={engine.value ?? ""}
        aria-label="Engine"
        onChange={({ currentTarget }) => (engine.value = ENGINES.find((each) => each === currentTarget.value) ?? null)}
      >
        <option value="">default ({ENGINE_NAMES[byDefault]})</option>
        {ENGINES.map((each) => (
          <option key={each} value={each}>
            {ENGINE_NAMES[each]}
          </option>
        ))}
      </select>
    </label>
  );
}
