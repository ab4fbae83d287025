/** Keeps the focus inside a part of the page whose elements are replaced by what the service answers.
 *
 * A browser drops the focus when the element that has it is removed. An observer runs before the next key, so no key is lost.
 */

import type { RefObject } from "preact";
import { useLayoutEffect } from "preact/hooks";

/** What takes the focus after `lost`, which was number `place` of `items`. */
type Successor = (items: HTMLElement[], place: number, lost: HTMLElement) => HTMLElement | null | undefined;

const samePlace: Successor = (items, place) => items[Math.min(place, items.length - 1)];

export function useKeptFocus(
  box: RefObject<HTMLElement | null>,
  selector: string,
  successor: Successor = samePlace,
): void {
  useLayoutEffect(() => (box.current === null ? undefined : keepFocus(box.current, selector, successor)), []);
}

function keepFocus(box: HTMLElement, selector: string, successor: Successor): () => void {
  let focused: HTMLElement | null = null;
  let place = 0;
  const items = (): HTMLElement[] => [...box.querySelectorAll<HTMLElement>(selector)];
  const onFocusIn = ({ target }: FocusEvent): void => {
    focused = (target as HTMLElement).closest<HTMLElement>(selector);
    place = focused === null ? 0 : items().indexOf(focused);
  };
  const onFocusOut = (): void => {
    const left = focused;
    queueMicrotask(() => {
      if (left?.isConnected === true && focused === left && document.activeElement !== left) focused = null;
    });
  };
  const observer = new MutationObserver(() => {
    if (focused === null) return;
    if (focused.isConnected) place = items().indexOf(focused);
    else if (document.activeElement === document.body) successor(items(), place, focused)?.focus();
    else focused = null;
  });
  box.addEventListener("focusin", onFocusIn);
  box.addEventListener("focusout", onFocusOut);
  observer.observe(box, { childList: true, subtree: true });
  return () => {
    box.removeEventListener("focusin", onFocusIn);
    box.removeEventListener("focusout", onFocusOut);
    observer.disconnect();
  };
}
