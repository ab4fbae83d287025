/** What of the console's frame is open. */

import { signal } from "@preact/signals";
import { load, save } from "./storage";

export const helpShown = signal(false);
/** The catalog's drawer, where the window is narrow. */
export const drawerShown = signal(false);
export const sidebarWidth = signal(load("sidebar", 300));
export const editorShare = signal(load("editor", 0.38));

export function openSearch(): void {
  drawerShown.value = true;
  queueMicrotask(focusSearch); // after the render that shows the drawer, and before the next key
}

function focusSearch(): void {
  const search = document.querySelector<HTMLInputElement>("#catalog-search");
  if (document.activeElement === search) return;
  search?.focus();
  search?.select();
}

export function keepShell(): void {
  save("sidebar", sidebarWidth.peek());
  save("editor", editorShare.peek());
}
