/** The catalog tree: environment, schema, table, columns. */

import { useSignal } from "@preact/signals";
import { useEffect, useMemo, useRef } from "preact/hooks";
import { tokenWanted } from "../api/client";
import type { Problem, TableSummary } from "../api/types";
import { catalog, catalogProblem, details, fullName, refreshCatalog, tableDetail } from "../state/catalog";
import { now } from "../state/clock";
import { SqlTab, activeTab, openAndRun, openTable } from "../state/tabs";
import { insertText } from "../editor/editor";
import { quoteName } from "../sql/literals";
import { useKeptFocus } from "../ui/focus";
import { age, ago, bytes, compact, count, plural } from "../ui/format";
import { Icon } from "../ui/icons";
import { notify } from "../ui/notice";
import { drawerShown } from "../state/shell";
import { type EnvironmentNode, type SchemaNode, found, isTable } from "./filter";

const PREVIEW_ROWS = 100;
const MOST_OPEN = 300; // tables: of more, only the schemas are listed until one is opened

export function CatalogTree() {
  const search = useSignal("");
  const toggled = useSignal<ReadonlySet<string>>(new Set());
  const tree = useRef<HTMLDivElement>(null);
  useKeptFocus(tree, "[role=treeitem]");
  const known = catalog.value;
  const nodes = useMemo(() => (known === null ? [] : found(known, search.value)), [known, search.value]);
  const others = known === null ? 0 : known.tables.filter((table) => !isTable(table)).length;
  const isSearch = search.value !== "";
  const toggle = (id: string): void => {
    const next = new Set(toggled.value);
    if (!next.delete(id)) next.add(id);
    toggled.value = next;
  };
  const startsOpen = nodes.reduce((sum, { tables }) => sum + tables, 0) <= MOST_OPEN;
  const shared = { toggled: toggled.value, toggle, startsOpen };
  return (
    <div class="catalog">
      <div class="catalog-search">
        <Icon name="search" />
        <input
          id="catalog-search"
          type="search"
          placeholder="Search tables"
          aria-label="Search tables"
          autocomplete="off"
          value={search.value}
          onInput={({ currentTarget }) => (search.value = currentTarget.value)}
          onKeyDown={(event) => {
            if (event.key === "ArrowDown") tree.current?.querySelector<HTMLElement>("[role=treeitem]")?.focus();
            else if (event.key === "Escape" && isSearch) search.value = "";
            else return;
            event.preventDefault();
          }}
        />
        <button
          type="button"
          class="icon-button"
          aria-label="Refresh the catalog"
          title="Refresh the catalog"
          onClick={() => void refreshCatalog()}
        >
          <Icon name="refresh" />
        </button>
      </div>
      {catalogProblem.value !== null && tokenWanted.value === null && (
        <p class="tree-reason is-bad">{catalogProblem.value.message}</p>
      )}
      <div
        class="tree"
        role="tree"
        aria-label="Catalog"
        ref={tree}
        onKeyDown={(event) => tree.current !== null && walk(event, tree.current)}
      >
        {nodes.map((node) => (
          <EnvironmentItem key={node.environment.name} node={node} {...shared} />
        ))}
        {known !== null && nodes.length === 0 && (
          <p class="quiet-note">
            {isSearch ? `No table matches “${search.value}”.` : "The service has no environment."}
          </p>
        )}
        {known !== null && !isSearch && known.tables.length === 0 && nodes.length > 0 && (
          <p class="quiet-note">Nothing is materialized yet: run an asset in Dagster, and its table appears here.</p>
        )}
        {!isSearch && others > 0 && (
          <p class="quiet-note">
            {others === 1
              ? "1 asset is not Parquet, and no table"
              : `${count(others)} assets are not Parquet, and no tables`}
            : <code>dagfusion tables --all</code> lists{" "}
            {others === 1 ? "it with the reason" : "them, each with the reason"}.
          </p>
        )}
      </div>
    </div>
  );
}

interface Toggles {
  toggled: ReadonlySet<string>;
  toggle: (id: string) => void;
  /** Whether a schema is open before anybody touched it. */
  startsOpen: boolean;
}

function EnvironmentItem({ node: { environment, schemas, tables }, ...toggles }: Toggles & { node: EnvironmentNode }) {
  const { toggled, toggle } = toggles;
  const id = `environment:${environment.name}`;
  const isOpen = !toggled.has(id);
  const { problem } = environment;
  return (
    <div class="tree-group">
      <div
        class={`tree-item is-environment ${problem === null ? "" : "is-down"}`}
        role="treeitem"
        aria-level={1}
        aria-expanded={isOpen}
        tabIndex={0}
        onClick={() => toggle(id)}
        title={problem?.detail}
      >
        <Icon name="chevron" />
        <span class={`dot ${problem === null ? "" : "is-bad"}`} />
        <span class="tree-name">{environment.name}</span>
        <span class="tree-facts">{problem === null ? plural(tables, "table") : "down"}</span>
      </div>
      {isOpen && problem !== null && <Reason problem={problem} />}
      {isOpen && schemas.map((schema) => <SchemaItem key={schema.name} schema={schema} {...toggles} />)}
      {isOpen && problem === null && environment.age_s !== null && environment.age_s > 60 && (
        <p class="tree-reason">The catalog is {age(environment.age_s)} old.</p>
      )}
    </div>
  );
}

function SchemaItem({ schema, toggled, toggle, startsOpen }: Toggles & { schema: SchemaNode }) {
  const id = `schema:${schema.name}:${startsOpen}`;
  const isOpen = toggled.has(id) !== startsOpen;
  return (
    <>
      <div
        class="tree-item is-schema"
        role="treeitem"
        aria-level={2}
        aria-expanded={isOpen}
        tabIndex={-1}
        onClick={() => toggle(id)}
      >
        <Icon name="chevron" />
        <span class="tree-name">{schema.name}</span>
        {!isOpen && <span class="tree-facts">{plural(schema.tables.length, "table")}</span>}
      </div>
      {isOpen &&
        schema.tables.map((table) => <TableItem key={table.name} table={table} toggled={toggled} toggle={toggle} />)}
    </>
  );
}

function TableItem({ table, toggled, toggle }: Omit<Toggles, "startsOpen"> & { table: TableSummary }) {
  const name = fullName(table);
  const id = `table:${name}`;
  const isOpen = toggled.has(id);
  const open = (): void => {
    openTable(table.schema, table.name);
    drawerShown.value = false;
  };
  const isBad = table.problem !== null;
  return (
    <>
      <div
        class={`tree-item is-table ${isBad ? "is-bad" : ""} ${activeTab()?.id === id ? "is-active" : ""}`}
        role="treeitem"
        aria-level={3}
        aria-expanded={isOpen}
        tabIndex={-1}
        data-table={name}
        onClick={open}
        title={table.asset_key.join(" / ")}
      >
        <button
          type="button"
          class="tree-toggle"
          tabIndex={-1}
          aria-label={isOpen ? "Hide columns" : "Show columns"}
          onClick={(event) => (event.stopPropagation(), toggle(id))}
        >
          <Icon name="chevron" />
        </button>
        <span class="tree-label">
          <span class="tree-name">
            {table.name}
            {table.warnings > 0 && (
              <span class="warn-badge" title={plural(table.warnings, "warning")}>
                <Icon name="warning" />
                {table.warnings}
              </span>
            )}
          </span>
          <span class="tree-facts">
            {isBad
              ? "cannot be read"
              : `${compact(table.rows)} rows · ${bytes(table.bytes)} · ${ago(table.materialized_at, now.value)}`}
          </span>
        </span>
        <button
          type="button"
          class="tree-peek"
          tabIndex={-1}
          aria-label={`Query ${name}`}
          title="Query it"
          disabled={isBad}
          onClick={(event) => (event.stopPropagation(), peek(table))}
        >
          <Icon name="play" />
        </button>
      </div>
      {isBad && table.problem !== null && <Reason problem={table.problem} />}
      {isOpen && !isBad && <Columns table={table} />}
    </>
  );
}

function peek({ schema, name }: TableSummary): void {
  drawerShown.value = false;
  openAndRun(`select *\nfrom ${quoteName(schema)}.${quoteName(name)}\nlimit ${PREVIEW_ROWS}`, name);
}

function Columns({ table }: { table: TableSummary }) {
  const name = fullName(table);
  const fresh = details.value.get(name);
  const last = useRef(fresh);
  last.current = fresh ?? last.current; // what was shown stays until what is new is there
  const detail = last.current;
  useEffect(() => {
    if (fresh !== undefined) return;
    void tableDetail(table.schema, table.name).catch(() => notify(`The columns of ${name} cannot be read now.`));
  }, [fresh === undefined]);
  if (detail === undefined) return <p class="tree-reason">…</p>;
  return (
    <>
      {detail.columns.map((column) => (
        <div
          key={column.name}
          class={`tree-item is-column ${column.partition ? "is-partition" : ""}`}
          role="treeitem"
          aria-level={4}
          tabIndex={-1}
          title={`${column.name}: ${column.type}${column.partition ? ", a partition column" : ""}`}
          onClick={() => insertColumn(column.name)}
        >
          <span class="tree-name">{column.name}</span>
          {column.partition && <span class="chip is-accent">partition</span>}
          <span class="tree-facts">{column.type}</span>
        </div>
      ))}
      {detail.warnings.map((warning) => (
        <p key={warning} class="tree-reason is-warning">
          {warning}
        </p>
      ))}
    </>
  );
}

function insertColumn(name: string): void {
  if (activeTab() instanceof SqlTab && insertText(quoteName(name))) drawerShown.value = false;
}

function Reason({ problem }: { problem: Problem }) {
  return <p class="tree-reason is-bad">{problem.detail}</p>;
}

/** The keys of a tree: up and down over what is shown, right and left to open and close. */
function walk(event: KeyboardEvent, tree: HTMLElement): void {
  const items = [...tree.querySelectorAll<HTMLElement>("[role=treeitem]")];
  const focused = document.activeElement as HTMLElement;
  const place = items.indexOf(focused);
  if (place === -1) return;
  const expanded = focused.getAttribute("aria-expanded");
  const open = (): void => (focused.querySelector<HTMLElement>(".tree-toggle") ?? focused).click();
  const level = Number(focused.ariaLevel);
  if (event.key === "ArrowDown") items[place + 1]?.focus();
  else if (event.key === "ArrowUp") items[place - 1]?.focus();
  else if (event.key === "Home") items[0]?.focus();
  else if (event.key === "End") items.at(-1)?.focus();
  else if (event.key === "ArrowRight" && expanded === "false") open();
  else if (event.key === "ArrowRight") items[place + 1]?.focus();
  else if (event.key === "ArrowLeft" && expanded === "true") open();
  else if (event.key === "ArrowLeft")
    items
      .slice(0, place)
      .findLast((item) => Number(item.ariaLevel) < level)
      ?.focus();
  else if (event.key === "Enter" || event.key === " ") focused.click();
  else return;
  event.preventDefault();
}
