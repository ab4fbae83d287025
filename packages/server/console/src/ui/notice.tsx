/** A word about what just happened; it goes by itself. */

import { signal } from "@preact/signals";

const SHOWN_MS = 3_500;
const text = signal("");
let timer = 0;

export function notify(message: string): void {
  text.value = message;
  clearTimeout(timer);
  timer = window.setTimeout(() => {
    text.value = "";
  }, SHOWN_MS);
}

export function Notice() {
  return (
    <div class={`notice ${text.value === "" ? "" : "is-shown"}`} role="status" aria-live="polite">
      {text.value}
    </div>
  );
}
