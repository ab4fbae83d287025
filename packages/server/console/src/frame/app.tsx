/** The console: bar, catalog, tabs. */

import { tokenWanted } from "../api/client";
import { QueriesPage } from "../queries/queries";
import { dismissLink, missingTable } from "../state/link";
import { drawerShown, helpShown, keepShell, sidebarWidth } from "../state/shell";
import { activeTab } from "../state/tabs";
import { TablePage } from "../table/table";
import { CatalogTree } from "../tree/tree";
import { Notice } from "../ui/notice";
import { ProblemView } from "../ui/problem";
import { Splitter } from "../ui/splitter";
import { Help } from "./help";
import { SqlPage } from "./sql";
import { TabStrip } from "./tabs";
import { TokenQuestion } from "./token";
import { TopBar } from "./topbar";

const [NARROWEST, WIDEST] = [200, 640];

export function App() {
  const width = sidebarWidth.value;
  const move = (pixels: number): void => {
    sidebarWidth.value = Math.min(Math.max(sidebarWidth.peek() + pixels, NARROWEST), WIDEST);
  };
  return (
    <div class="app">
      <TopBar />
      <div class="app-body">
        <nav
          class={`sidebar ${drawerShown.value ? "is-shown" : ""}`}
          aria-label="Catalog"
          style={{ width: `${width}px` }}
        >
          <CatalogTree />
        </nav>
        {drawerShown.value && <div class="scrim" onClick={() => (drawerShown.value = false)} />}
        <Splitter
          label="Catalog width"
          orientation="vertical"
          value={(width / WIDEST) * 100}
          onMove={move}
          onEnd={keepShell}
        />
        <main class="main">
          <TabStrip />
          <BrokenLink />
          {tokenWanted.value === null && <Page />}
        </main>
      </div>
      <Notice />
      {helpShown.value && <Help onClose={() => (helpShown.value = false)} />}
      {tokenWanted.value !== null && <TokenQuestion />}
    </div>
  );
}

function BrokenLink() {
  const table = missingTable.value;
  if (table === null || tokenWanted.value !== null) return null;
  return (
    <ProblemView code="unknown_table" message={`The link names the table “${table}”, which is not in your catalog.`}>
      <p>Its environment may be down, or your token may not include it.</p>
      <button type="button" class="button" onClick={dismissLink}>
        Dismiss
      </button>
    </ProblemView>
  );
}

function Page() {
  const tab = activeTab();
  if (tab === undefined) return null;
  if (tab.kind === "sql") return <SqlPage key={tab.id} tab={tab} />;
  return tab.kind === "table" ? <TablePage key={tab.id} tab={tab} /> : <QueriesPage />;
}
