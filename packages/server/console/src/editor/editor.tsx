/** The SQL editor of one tab.
 *
 * CodeMirror lives in a shadow root: there its styles are adopted style sheets, which the content security policy allows, and not
 * `<style>` elements, which it does not.
 */

import { closeCompletion } from "@codemirror/autocomplete";
import { setDiagnostics } from "@codemirror/lint";
import { EditorSelection, EditorState } from "@codemirror/state";
import { EditorView } from "@codemirror/view";
import { useSignalEffect } from "@preact/signals";
import { useLayoutEffect, useRef } from "preact/hooks";
import { nameLength, offsetOf } from "../sql/statements";
import { type SqlTab, runTab } from "../state/tabs";
import { extensions } from "./extensions";

const states = new WeakMap<SqlTab, EditorState>(); // undo and cursor outlive a change of tabs
const LONGEST_NAME = 300;
let shown: { tab: SqlTab; view: EditorView } | null = null;

/** The statement or selection that the shown tab's cursor is at runs. */
export function runShown(): void {
  if (shown === null) return;
  closeCompletion(shown.view);
  const { from, to } = shown.view.state.selection.main;
  void runTab(shown.tab, { from, to });
}

export function focusEditor(): void {
  shown?.view.focus();
}

/** Write text where the shown tab's cursor is. */
export function insertText(text: string): boolean {
  if (shown === null) return false;
  shown.view.dispatch(shown.view.state.replaceSelection(text));
  shown.view.focus();
  return true;
}

export function Editor({ tab }: { tab: SqlTab }) {
  const host = useRef<HTMLDivElement>(null);
  const view = useRef<EditorView | null>(null);

  // Not after the next paint: by then a key may have moved the focus, or may be meant for this editor.
  useLayoutEffect(() => {
    const element = host.current;
    if (element === null) return undefined;
    const root = element.shadowRoot ?? element.attachShadow({ mode: "open" });
    const mount = document.createElement("div");
    mount.style.height = "100%";
    root.replaceChildren(mount);
    const made = new EditorView({ parent: mount, root, state: states.get(tab) ?? newState(tab) });
    view.current = made;
    shown = { tab, view: made };
    const isWalking = document.activeElement?.matches("[role=tab]:focus-visible") === true; // by keyboard over the tabs
    if (!isWalking && !matchMedia("(pointer: coarse)").matches) made.focus();
    return () => {
      states.set(tab, made.state);
      if (shown?.view === made) shown = null; // the next editor may be there already
      made.destroy();
    };
  }, [tab]);

  useSignalEffect(() => {
    const run = tab.run.value;
    const problem = run?.problem.value ?? null;
    const editor = view.current;
    if (editor !== null) editor.dispatch(setDiagnostics(editor.state, []));
    if (editor === null || run === null || problem === null || problem.position === null) return;
    const length = editor.state.doc.length;
    const from = Math.min(offsetOf(run.statement, problem.position), length);
    const to = Math.min(from + nameLength(editor.state.sliceDoc(from, from + LONGEST_NAME)), length);
    const marked = {
      from: from === to ? Math.max(from - 1, 0) : from,
      to,
      severity: "error" as const,
      message: problem.message,
    };
    editor.dispatch(setDiagnostics(editor.state, [marked]));
    editor.dispatch({ effects: EditorView.scrollIntoView(from) });
  });

  return <div class="editor" ref={host} data-testid="editor" />;
}

function newState(tab: SqlTab): EditorState {
  const listener = EditorView.updateListener.of((update) => {
    if (update.docChanged) tab.text.value = update.state.doc.toString();
  });
  const keys = {
    run: runShown,
    cancel: () => {
      const run = tab.run.peek();
      const isRunning = run?.phase.peek() === "waiting" || run?.phase.peek() === "streaming";
      if (isRunning) run.cancel();
      return isRunning;
    },
  };
  const doc = tab.text.peek();
  return EditorState.create({
    doc,
    selection: EditorSelection.cursor(doc.length),
    extensions: [extensions(keys), listener],
  });
}
