/** A modal dialog: the browser's own, which traps the focus and closes with Escape. */

import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { Icon } from "./icons";

interface Props {
  title: string;
  /** Missing for a dialog that cannot be closed. */
  onClose?: () => void;
  isSmall?: boolean;
  children: ComponentChildren;
}

export function Dialog({ title, onClose, isSmall = false, children }: Props) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => dialog.current?.showModal(), []);
  const close = (): void => dialog.current?.close(); // gives the focus back
  const reopen = (): void => dialog.current?.showModal(); // a browser closes at the second Escape, whatever the handler does
  return (
    <dialog
      class={`dialog ${isSmall ? "is-small" : ""}`}
      ref={dialog}
      aria-label={title}
      onCancel={(event) => onClose === undefined && event.preventDefault()}
      onClose={onClose ?? reopen}
      onClick={(event) => onClose !== undefined && event.target === event.currentTarget && close()}
    >
      <div class="dialog-body">
        <header class="dialog-head">
          <h2>{title}</h2>
          {onClose !== undefined && (
            <button type="button" class="icon-button" aria-label="Close" onClick={close}>
              <Icon name="close" />
            </button>
          )}
        </header>
        {children}
      </div>
    </dialog>
  );
}
