/** What may be written at a place of a statement, by the catalog. Pure. */

import type { Column, TableSummary } from "../api/types";
import { FUNCTIONS } from "./dialect";
import { quoteName } from "./literals";

export interface Suggestion {
  label: string;
  apply: string;
  kind: "schema" | "table" | "column" | "function";
  detail: string;
  /** Higher comes first. */
  boost: number;
}

export interface Suggestions {
  /** Where the word begins that a suggestion replaces. */
  from: number;
  options: Suggestion[];
}

export interface Mention {
  schema: string;
  table: string;
  alias: string | null;
}

const NAME = String.raw`(?:"(?:[^"]|"")+"|[\p{L}_][\p{L}\p{N}_]*)`;
const MENTION = new RegExp(String.raw`\b(?:from|join|,)\s*(${NAME})\.(${NAME})(?:\s+(?:as\s+)?(${NAME}))?`, "giu");
const WORD = new RegExp(String.raw`((?:${NAME}\.)*)("?[\p{L}\p{N}_]*)$`, "u");
const CLAUSE = /\b(?:select|from|join|where|on|by|having|limit|using|qualify)\b/giu;
const BEFORE_TABLE = /(?:\b(?:from|join)\s+|,\s*)"?[\w.]*$/iu;
const NO_ALIAS = new Set(
  "where join left right inner full cross on group order having limit union except intersect using natural qualify window as tablesample".split(
    " ",
  ),
);
/** The tables that a text names, with their aliases. */
export function mentions(text: string): Mention[] {
  return [...text.matchAll(MENTION)].map(([, schema, table, alias]) => ({
    schema: unquoted(schema ?? ""),
    table: unquoted(table ?? ""),
    alias: alias === undefined || NO_ALIAS.has(alias.toLowerCase()) ? null : unquoted(alias),
  }));
}

/** Suggestions at a place; null where a name cannot be. */
export function suggest(
  text: string,
  place: number,
  tables: readonly TableSummary[],
  columnsOf: (mention: Mention) => readonly Column[],
): Suggestions | null {
  const before = text.slice(0, place);
  const [, path = "", word = ""] = WORD.exec(before) ?? [];
  const from = place - word.length;
  const mentioned = mentions(text);
  if (path !== "") {
    const qualifier = unquoted(path.slice(0, -1).split(".").at(-1) ?? "");
    return { from, options: [...columnsBehind(qualifier, mentioned, columnsOf), ...tablesIn(qualifier, tables)] };
  }
  if (word === "" && !/[\s(,=<>]$/.test(before)) return null;
  if (isTablesPlace(before)) return { from, options: [...schemas(tables), ...allTables(tables)] };
  const columns = mentioned.flatMap((mention) =>
    columnsOf(mention).map((column) => columnOption(column, mention.table)),
  );
  const aliases = mentioned.flatMap(({ alias, table }) => (alias === null ? [] : [option(alias, "table", table, 1)]));
  const functions = FUNCTIONS.split(" ").map((name) => option(name, "function", "", -2));
  return {
    from,
    options: [
      ...unique(columns),
      ...aliases,
      ...functions,
      ...allTables(tables).map((each) => ({ ...each, boost: -3 })),
    ],
  };
}

/** Whether a table has to come: right after from or join, or after a comma as long as no other clause has begun. */
function isTablesPlace(before: string): boolean {
  const clause = [...before.matchAll(CLAUSE)].at(-1)?.[0].toLowerCase();
  return (clause === "from" || clause === "join") && BEFORE_TABLE.test(before);
}

function columnsBehind(
  qualifier: string,
  mentioned: Mention[],
  columnsOf: (mention: Mention) => readonly Column[],
): Suggestion[] {
  const meant = mentioned.filter(({ alias, table }) => (alias ?? table) === qualifier || table === qualifier);
  return unique(meant.flatMap((mention) => columnsOf(mention).map((column) => columnOption(column, mention.table))));
}

function tablesIn(schema: string, tables: readonly TableSummary[]): Suggestion[] {
  return tables
    .filter((table) => table.schema === schema)
    .map((table) => option(table.name, "table", `${table.partitions} partitions`, 1));
}

function schemas(tables: readonly TableSummary[]): Suggestion[] {
  return [...new Set(tables.map(({ schema }) => schema))].map((schema) => option(schema, "schema", "schema", 0));
}

function allTables(tables: readonly TableSummary[]): Suggestion[] {
  return tables.map(({ schema, name }) => {
    const whole = `${quoteName(schema)}.${quoteName(name)}`;
    return { label: `${schema}.${name}`, apply: whole, kind: "table", detail: "", boost: 1 };
  });
}

function columnOption({ name, type, partition }: Column, table: string): Suggestion {
  return option(name, "column", `${type}${partition ? " · partition" : ""} · ${table}`, partition ? 4 : 3);
}

function option(name: string, kind: Suggestion["kind"], detail: string, boost: number): Suggestion {
  return { label: name, apply: kind === "function" ? name : quoteName(name), kind, detail, boost };
}

function unique(options: Suggestion[]): Suggestion[] {
  return [...new Map(options.map((each) => [each.label, each] as const)).values()];
}

function unquoted(name: string): string {
  return name.startsWith('"') ? name.slice(1, -1).replaceAll('""', '"') : name.toLowerCase();
}
