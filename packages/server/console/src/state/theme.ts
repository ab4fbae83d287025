/** Dark, light, or as the system says. */

import { effect, signal } from "@preact/signals";
import { load, save } from "./storage";

export type Theme = "system" | "light" | "dark";

const system = matchMedia("(prefers-color-scheme: dark)");
const systemDark = signal(system.matches);
system.addEventListener("change", () => {
  systemDark.value = system.matches;
});

export const theme = signal<Theme>(load<Theme>("theme", "system"));

export function isDark(): boolean {
  return theme.value === "system" ? systemDark.value : theme.value === "dark";
}

export function toggleTheme(): void {
  const dark = !isDark();
  theme.value = dark === systemDark.value ? "system" : dark ? "dark" : "light";
}

export function applyTheme(): void {
  effect(() => {
    save("theme", theme.value);
    document.documentElement.dataset["theme"] = isDark() ? "dark" : "light";
  });
}

/** A colour or size of the style sheet, for what is drawn on a canvas. */
export function token(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}
