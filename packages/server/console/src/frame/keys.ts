/** The keys that work anywhere. */

import { focusEditor, runShown } from "../editor/editor";
import { toggleTheme } from "../state/theme";
import { QueriesTab, activeId, activeTab, closeTab, moveActive, openSql, openTab } from "../state/tabs";
import { helpShown, openSearch } from "../state/shell";

const ALT: Record<string, () => void> = {
  KeyN: () => void openSql(),
  KeyW: () => closeTab(activeId.peek()),
  BracketRight: () => moveActive(1),
  BracketLeft: () => moveActive(-1),
  KeyE: focusEditor,
  KeyR: () => document.querySelector<HTMLElement>(".result [role=grid], .result [tabindex='0']")?.focus(),
  KeyQ: () => openTab(new QueriesTab()),
  KeyD: toggleTheme,
};

export function listenToKeys(): void {
  addEventListener("keydown", (event) => {
    if (event.defaultPrevented || document.querySelector("dialog[open]") !== null) return;
    const action = actionOf(event);
    if (action === null) return;
    event.preventDefault();
    action();
  });
}

function actionOf(event: KeyboardEvent): (() => void) | null {
  const mod = event.ctrlKey || event.metaKey;
  if (event.altKey && !mod) return ALT[event.code] ?? null;
  if (mod && event.key.toLowerCase() === "k") return openSearch;
  if (mod && event.key === "Enter") return runShown;
  if (event.key === "Escape") return cancelRunning();
  return event.key === "?" && !isTyping(event) ? () => (helpShown.value = true) : null;
}

function cancelRunning(): (() => void) | null {
  const tab = activeTab();
  const run = tab?.kind === "sql" ? tab.run.peek() : null;
  return run?.running ? () => run.cancel() : null;
}

function isTyping(event: KeyboardEvent): boolean {
  const [target] = event.composedPath();
  return (
    target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName))
  );
}
