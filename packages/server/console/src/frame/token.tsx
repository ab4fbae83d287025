/** The question for a token. */

import { useSignal } from "@preact/signals";
import { hasToken, tokenWanted } from "../api/client";
import { signIn } from "../state/session";
import { Dialog } from "../ui/dialog";
import { Icon } from "../ui/icons";

export function TokenQuestion() {
  const token = useSignal("");
  const refused = useSignal<string | null>(null);
  const isAsking = useSignal(false);
  const submit = async (event: Event): Promise<void> => {
    event.preventDefault();
    isAsking.value = true;
    refused.value = await signIn(token.value.trim());
    isAsking.value = false;
  };
  return (
    <Dialog title="Sign in" isSmall>
      <form class="token" onSubmit={(event) => void submit(event)}>
        <p>
          The service wants an access token. <code>dagfusion token create</code> makes one.
        </p>
        <label>
          <span>Token</span>
          <input
            type="password"
            autocomplete="off"
            spellcheck={false}
            placeholder="dft_…"
            autofocus
            value={token.value}
            onInput={({ currentTarget }) => (token.value = currentTarget.value)}
            aria-invalid={refused.value !== null}
          />
        </label>
        <p class="token-problem" role="alert">
          {refused.value ?? (hasToken() ? tokenWanted.value : null)}
        </p>
        <p class="muted">It is kept until this tab closes, and only ever sent in a header.</p>
        <button type="submit" class="button is-primary" disabled={token.value.trim() === "" || isAsking.value}>
          <Icon name="key" /> Sign in
        </button>
      </form>
    </Dialog>
  );
}
