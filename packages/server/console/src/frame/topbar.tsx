/** The bar on top: what this is, who asks, and how it looks. */

import { hasToken } from "../api/client";
import { catalog, catalogProblem } from "../state/catalog";
import { session, signOut } from "../state/session";
import { isDark, toggleTheme } from "../state/theme";
import { QueriesTab, openTab } from "../state/tabs";
import { Icon } from "../ui/icons";
import { drawerShown, helpShown } from "../state/shell";

export function TopBar() {
  const user = session.value;
  return (
    <header class="topbar">
      <button
        type="button"
        class="icon-button drawer-button"
        aria-label="Catalog"
        aria-expanded={drawerShown.value}
        onClick={() => (drawerShown.value = !drawerShown.value)}
      >
        <Icon name="menu" />
      </button>
      <h1 class="brand">
        <img src="/favicon.svg" alt="" width="22" height="22" />
        DagFusion
      </h1>
      <Environments />
      <span class="spacer" />
      {user !== null && (
        <span class="user" title={user.anonymous ? "No token was required" : "Signed in with a token"}>
          {user.user}
          <small>{user.version}</small>
        </span>
      )}
      {hasToken() && (
        <button type="button" class="icon-button" aria-label="Sign out" title="Sign out" onClick={() => void signOut()}>
          <Icon name="signout" />
        </button>
      )}
      <button
        type="button"
        class="icon-button"
        aria-label="Queries"
        title="Running queries and history (Alt+Q)"
        onClick={() => openTab(new QueriesTab())}
      >
        <Icon name="activity" />
      </button>
      <button
        type="button"
        class="icon-button"
        aria-label={isDark() ? "Light colours" : "Dark colours"}
        title="Dark or light (Alt+D)"
        onClick={toggleTheme}
      >
        <Icon name={isDark() ? "sun" : "moon"} />
      </button>
      <button
        type="button"
        class="icon-button"
        aria-label="Keyboard help"
        title="Keyboard (?)"
        onClick={() => (helpShown.value = true)}
      >
        <Icon name="help" />
      </button>
    </header>
  );
}

function Environments() {
  const unknown = catalogProblem.value?.message ?? null;
  return (
    <ul class="environments" aria-label="Environments">
      {catalog.value?.environments.map(({ name, problem }) => {
        const why = unknown ?? problem?.detail ?? null;
        return (
          <li key={name} title={why ?? `${name} answers`}>
            <span class={`dot ${why === null ? "" : "is-bad"}`} />
            {name}
            <span class="visually-hidden">{why === null ? "is up" : "is down"}</span>
          </li>
        );
      })}
    </ul>
  );
}
