/** Where statements begin and end in a text, and what a position in one is in the text. Pure. */

import type { Statement } from "../state/run";

/** Strings, quoted names, comments and dollar quotes, in which a semicolon ends nothing; or the semicolon itself. */
const PIECE = /'(?:[^']|'')*'?|"(?:[^"]|"")*"?|--[^\n]*|\/\*[\s\S]*?(?:\*\/|$)|(\$\w*\$)[\s\S]*?(?:\1|$)|;/g;

/** The statements of a text, without blank ends. */
export function statements(text: string): Statement[] {
  const ends = [...text.matchAll(PIECE)].filter((piece) => piece[0] === ";").map((piece) => piece.index);
  const starts = [0, ...ends.map((end) => end + 1)];
  return starts.map((start, index) => trimmed(text, start, ends[index] ?? text.length)).filter(({ sql }) => sql !== "");
}

/** The selected text, or the statement that the cursor is in or behind; null when there is none. */
export function statementAt(text: string, from: number, to: number): Statement | null {
  if (from !== to) {
    const selected = trimmed(text, from, to);
    return selected.sql === "" ? null : selected;
  }
  const all = statements(text);
  return all.findLast((statement) => statement.from <= from) ?? all[0] ?? null;
}

/** The offset in the editor's text of a 1-based line and column of a statement. */
export function offsetOf(statement: Statement, position: { line: number; column: number }): number {
  const lines = statement.sql.split("\n");
  const line = Math.min(Math.max(position.line, 1), lines.length);
  const before = lines.slice(0, line - 1).reduce((sum, { length }) => sum + length + 1, 0);
  const column = Math.min(Math.max(position.column - 1, 0), (lines[line - 1] ?? "").length);
  return statement.from + before + column;
}

/** The length of the name, with its dots, that a text begins with; 1 for anything else. */
export function nameLength(text: string): number {
  return /^(?:(?:"(?:[^"]|"")*"|[\p{L}\p{N}_$]+)\.?)+/u.exec(text)?.[0].replace(/\.$/, "").length ?? 1;
}

function trimmed(text: string, from: number, to: number): Statement {
  const part = text.slice(from, to);
  return { sql: part.trim(), from: from + part.length - part.trimStart().length };
}
