/** An error, as a person can act on it. */

import type { ComponentChildren } from "preact";
import { Icon } from "./icons";

const HEADS: Record<string, string> = { plan: "the statement cannot be planned", sql_syntax: "syntax error" };

interface Props {
  code: string;
  message: string;
  position?: { line: number; column: number } | null;
  queryId?: string | null;
  children?: ComponentChildren;
}

export function ProblemView({ code, message, position = null, queryId = null, children }: Props) {
  return (
    <div class="problem" role="alert">
      <Icon name="warning" />
      <div>
        <p class="problem-head">
          <b>{HEADS[code] ?? code.replaceAll("_", " ")}</b>
          {position !== null && (
            <span>
              line {position.line}, column {position.column}
            </span>
          )}
          {queryId !== null && <span class="muted">query {queryId}</span>}
        </p>
        <p class="problem-text">{message}</p>
        {children}
      </div>
    </div>
  );
}
