/** The strip of tabs. */

import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { type SqlTab, type Tab, activeId, closeTab, moveActive, openSql, tabs } from "../state/tabs";
import { Icon, type IconName } from "../ui/icons";

const ICONS: Record<Tab["kind"], IconName> = { sql: "sql", table: "table", queries: "activity" };

export function TabStrip() {
  const strip = useRef<HTMLDivElement>(null);
  useEffect(() => {
    strip.current?.querySelector(".tab.is-active")?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }, [activeId.value]);
  const onKeyDown = (event: KeyboardEvent): void => {
    const focused = (event.target as HTMLElement).dataset["tab"];
    if (focused === undefined) return;
    if (event.key === "ArrowLeft") moveActive(-1);
    else if (event.key === "ArrowRight") moveActive(1);
    else if (event.key === "Delete") closeTab(focused);
    else return;
    event.preventDefault();
    strip.current?.querySelector<HTMLElement>(`[data-tab="${CSS.escape(activeId.peek())}"]`)?.focus();
  };
  return (
    <div class="tabs">
      <div class="tabs-list" role="tablist" aria-label="Tabs" ref={strip} onKeyDown={onKeyDown}>
        {tabs.value.map((tab) => (
          <TabItem key={tab.id} tab={tab} isActive={tab.id === activeId.value} />
        ))}
      </div>
      <button
        type="button"
        class="icon-button"
        aria-label="New tab"
        title="New tab (Alt+N)"
        onClick={() => void openSql()}
      >
        <Icon name="plus" />
      </button>
    </div>
  );
}

function TabItem({ tab, isActive }: { tab: Tab; isActive: boolean }) {
  const isRenaming = useSignal(false);
  const name = tab.kind === "sql" ? tab.name.value : tab.kind === "table" ? tab.table : "Queries";
  const isRunning = tab.kind === "sql" && tab.run.value?.running === true;
  return (
    <div class={`tab ${isActive ? "is-active" : ""}`} onAuxClick={(event) => event.button === 1 && closeTab(tab.id)}>
      {isRenaming.value && tab.kind === "sql" ? (
        <Rename tab={tab} onDone={() => (isRenaming.value = false)} />
      ) : (
        <button
          type="button"
          role="tab"
          class="tab-name"
          data-tab={tab.id}
          aria-selected={isActive}
          tabIndex={isActive ? 0 : -1}
          title={tab.kind === "sql" ? `${name} (double-click or F2 renames)` : name}
          onClick={() => (activeId.value = tab.id)}
          onDblClick={() => (isRenaming.value = true)}
          onKeyDown={(event) => {
            if (event.key === "F2") isRenaming.value = true;
          }}
        >
          {isRunning ? <span class="spinner" /> : <Icon name={ICONS[tab.kind]} />}
          <span class="tab-text">{name}</span>
        </button>
      )}
      <button
        type="button"
        class="tab-close"
        tabIndex={-1}
        aria-label={`Close ${name}`}
        onClick={() => closeTab(tab.id)}
      >
        <Icon name="close" />
      </button>
    </div>
  );
}

function Rename({ tab, onDone }: { tab: SqlTab; onDone: () => void }) {
  const input = useRef<HTMLInputElement>(null);
  useEffect(() => input.current?.select(), []);
  const keep = (): void => {
    tab.name.value = input.current?.value.trim() || tab.name.value;
    onDone();
  };
  return (
    <input
      ref={input}
      class="tab-rename"
      aria-label="Tab name"
      defaultValue={tab.name.value}
      maxLength={60}
      onBlur={keep}
      onKeyDown={(event) => {
        if (event.key === "Enter") keep();
        if (event.key === "Escape") onDone();
      }}
    />
  );
}
