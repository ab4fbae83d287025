/** The editor in the console's colours, which follow the style sheet's variables. */

import { HighlightStyle, syntaxHighlighting } from "@codemirror/language";
import { EditorView } from "@codemirror/view";
import { tags } from "@lezer/highlight";

const frame = EditorView.theme({
  "&": { height: "100%", color: "var(--text)", backgroundColor: "var(--surface)", fontSize: "13.5px" },
  "&.cm-focused": { outline: "none" },
  ".cm-scroller": { fontFamily: "var(--mono)", lineHeight: "1.6" },
  ".cm-content": { padding: "10px 0", caretColor: "var(--accent)" },
  ".cm-line": { padding: "0 12px 0 6px" },
  ".cm-cursor": { borderLeftColor: "var(--accent)", borderLeftWidth: "2px" },
  ".cm-gutters": { backgroundColor: "var(--surface)", color: "var(--faint)", border: "none", paddingLeft: "6px" },
  ".cm-lineNumbers .cm-gutterElement": { minWidth: "26px", fontSize: "11.5px" },
  ".cm-foldGutter": { display: "none" },
  ".cm-activeLine": { backgroundColor: "var(--hover-soft)" },
  ".cm-activeLineGutter": { backgroundColor: "transparent", color: "var(--muted)" },
  "&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, .cm-selectionBackground": {
    background: "var(--selection)",
  },
  ".cm-selectionMatch": { backgroundColor: "var(--accent-soft)" },
  "&.cm-focused .cm-matchingBracket": {
    backgroundColor: "var(--accent-soft)",
    outline: "1px solid var(--accent-line)",
  },
  ".cm-placeholder": { color: "var(--faint)" },
  ".cm-lintRange-error": {
    backgroundImage: "none",
    textDecoration: "underline wavy var(--danger) 1.5px",
    textUnderlineOffset: "4px",
  },
  ".cm-diagnostic": {
    padding: "6px 10px",
    borderLeft: "3px solid var(--danger)",
    fontFamily: "var(--sans)",
    maxWidth: "min(560px, 90vw)",
    whiteSpace: "pre-wrap",
  },
  ".cm-tooltip": {
    backgroundColor: "var(--raised)",
    color: "var(--text)",
    border: "1px solid var(--line)",
    borderRadius: "8px",
    boxShadow: "var(--shadow)",
    overflow: "hidden",
  },
  ".cm-tooltip.cm-tooltip-autocomplete > ul": {
    fontFamily: "var(--mono)",
    fontSize: "12.5px",
    maxHeight: "16em",
    minWidth: "240px",
    maxWidth: "min(560px, 92vw)",
  },
  ".cm-tooltip.cm-tooltip-autocomplete > ul > li": {
    padding: "3px 10px 3px 6px",
    lineHeight: "1.5",
    display: "flex",
    alignItems: "center",
    gap: "6px",
  },
  ".cm-tooltip.cm-tooltip-autocomplete > ul > li[aria-selected]": {
    backgroundColor: "var(--accent-soft)",
    color: "var(--text)",
  },
  ".cm-completionMatchedText": { textDecoration: "none", color: "var(--accent)", fontWeight: "600" },
  ".cm-completionDetail": {
    marginLeft: "auto",
    paddingLeft: "16px",
    color: "var(--muted)",
    fontStyle: "normal",
    fontFamily: "var(--sans)",
    fontSize: "11.5px",
  },
  ".cm-completionIcon": {
    width: "16px",
    padding: "0",
    opacity: "1",
    color: "var(--muted)",
    fontSize: "11px",
    textAlign: "center",
  },
  ".cm-completionIcon-schema::after": { content: "'◫'" },
  ".cm-completionIcon-table::after": { content: "'▦'" },
  ".cm-completionIcon-column::after": { content: "'▏'" },
  ".cm-completionIcon-function::after": { content: "'ƒ'" },
  ".cm-completionIcon-keyword::after": { content: "'·'" },
  ".cm-panels": { backgroundColor: "var(--sunken)", color: "var(--text)", borderColor: "var(--line)" },
  ".cm-panel input, .cm-panel button": {
    fontFamily: "var(--sans)",
    color: "inherit",
    background: "var(--surface)",
    border: "1px solid var(--line)",
    borderRadius: "5px",
    backgroundImage: "none",
  },
  ".cm-searchMatch": { backgroundColor: "var(--warning-soft)" },
  "@media (pointer: coarse)": { "&": { fontSize: "16px" } }, // a smaller font makes phones zoom in
});

const colours = HighlightStyle.define([
  { tag: tags.keyword, color: "var(--code-keyword)", fontWeight: "600" },
  { tag: [tags.string, tags.special(tags.string)], color: "var(--code-string)" },
  { tag: [tags.number, tags.bool, tags.null], color: "var(--code-number)" },
  { tag: [tags.lineComment, tags.blockComment], color: "var(--faint)", fontStyle: "italic" },
  { tag: [tags.typeName, tags.standard(tags.name)], color: "var(--code-type)" },
  { tag: [tags.operator, tags.punctuation], color: "var(--muted)" },
]);

export const appearance = [frame, syntaxHighlighting(colours)];
