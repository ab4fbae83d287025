/** Who asks. */

import { computed, signal } from "@preact/signals";
import { api, forgetToken, setToken, tokenWanted } from "../api/client";
import { toProblem } from "../api/problem";
import type { Session } from "../api/types";
import { refreshCatalog } from "./catalog";

export const session = signal<Session | null>(null);

/** The service has a Spark Connect server, so that statements can choose their engine. */
export const hasSpark = computed(() => session.value?.spark ?? false);

export async function openSession(): Promise<void> {
  try {
    session.value = await api.session();
    tokenWanted.value = null;
  } catch {
    session.value = null; // the catalog says why, or the question for a token does
  }
  await refreshCatalog();
}

/** Try a token, and say what is wrong with it; null when it is good. */
export async function signIn(token: string): Promise<string | null> {
  setToken(token);
  try {
    session.value = await api.session();
  } catch (error) {
    forgetToken();
    return toProblem(error).message;
  }
  tokenWanted.value = null;
  await refreshCatalog();
  return null;
}

export async function signOut(): Promise<void> {
  forgetToken();
  location.reload();
}
