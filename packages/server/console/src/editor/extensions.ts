/** What the editor can do: SQL, completion from the catalog, keys. */

import {
  type CompletionContext,
  type CompletionResult,
  autocompletion,
  completionKeymap,
  closeBrackets,
  closeBracketsKeymap,
} from "@codemirror/autocomplete";
import { defaultKeymap, history, historyKeymap, indentWithTab, toggleComment } from "@codemirror/commands";
import { keywordCompletionSource, sql } from "@codemirror/lang-sql";
import { bracketMatching, indentOnInput, syntaxTree } from "@codemirror/language";
import { highlightSelectionMatches, searchKeymap } from "@codemirror/search";
import { EditorState, type Extension, Prec } from "@codemirror/state";
import {
  EditorView,
  drawSelection,
  highlightActiveLine,
  highlightSpecialChars,
  keymap,
  lineNumbers,
  placeholder,
} from "@codemirror/view";
import type { Column } from "../api/types";
import { catalog, details, tableDetail } from "../state/catalog";
import { type Mention, mentions, suggest } from "../sql/completion";
import { dataFusion, words } from "../sql/dialect";
import { isTable } from "../tree/filter";
import { appearance } from "./theme";
import { typeOver } from "./typeover";

export interface EditorKeys {
  run: () => void;
  /** Whether there was something to cancel. */
  cancel: () => boolean;
}

export function extensions(keys: EditorKeys): Extension {
  const own = Prec.highest(keymap.of([{ key: "Mod-Enter", run: () => (keys.run(), true) }]));
  const escape = Prec.low(keymap.of([{ key: "Escape", run: keys.cancel }]));
  return [
    own,
    typeOver,
    lineNumbers(),
    highlightSpecialChars(),
    history(),
    drawSelection(),
    EditorState.allowMultipleSelections.of(true),
    indentOnInput(),
    bracketMatching(),
    closeBrackets(),
    highlightActiveLine(),
    highlightSelectionMatches(),
    EditorView.lineWrapping,
    EditorView.contentAttributes.of({ "aria-label": "SQL", spellcheck: "false", autocapitalize: "off" }),
    placeholder("select … from …   Ctrl+Enter runs"),
    sql({ dialect: dataFusion }),
    autocompletion({ override: [fromCatalog, keywordCompletionSource(words)], icons: true }),
    keymap.of([
      ...closeBracketsKeymap,
      { key: "Mod-/", run: toggleComment },
      ...searchKeymap,
      ...historyKeymap,
      ...completionKeymap,
      ...defaultKeymap,
      indentWithTab,
    ]),
    escape,
    appearance,
  ];
}

async function fromCatalog(context: CompletionContext): Promise<CompletionResult | null> {
  const node = syntaxTree(context.state).resolveInner(context.pos, -1).name;
  if (node === "String" || node.endsWith("Comment")) return null;
  const text = context.state.doc.toString();
  if (!context.explicit && !/[\p{L}\p{N}_."]$/u.test(text.slice(0, context.pos))) return null;
  await Promise.all(mentions(text).map(fetchColumns));
  const found = suggest(text, context.pos, catalog.peek()?.tables.filter(isTable) ?? [], columnsOf);
  if (found === null) return null;
  const options = found.options.map(({ label, apply, kind, detail, boost }) => ({
    label,
    apply,
    type: kind,
    detail,
    boost,
  }));
  return { from: found.from, options, validFor: /^"?[\p{L}\p{N}_]*$/u };
}

/** Fetch a mentioned table's columns; one that is not there has none. */
async function fetchColumns({ schema, table }: Mention): Promise<void> {
  const isInCatalog = catalog.peek()?.tables.some((each) => each.schema === schema && each.name === table);
  if (isInCatalog) await tableDetail(schema, table).catch(() => null);
}

function columnsOf({ schema, table }: Mention): readonly Column[] {
  return details.peek().get(`${schema}.${table}`)?.columns ?? [];
}
