/** What the browser keeps between visits; a full or forbidden storage keeps nothing, and the console goes on. */

const PREFIX = "dagfusion.";

/** Read what this window kept, or else what any window kept last. */
export function load<T>(name: string, fallback: T): T {
  try {
    const text = sessionStorage.getItem(PREFIX + name) ?? localStorage.getItem(PREFIX + name);
    return text === null ? fallback : (JSON.parse(text) as T);
  } catch {
    return fallback;
  }
}

export function save(name: string, value: unknown): boolean {
  return write(localStorage, name, value);
}

/** Keep something for this window's next reload too, whatever other windows keep meanwhile. */
export function saveHere(name: string, value: unknown): boolean {
  return write(sessionStorage, name, value) && save(name, value);
}

function write(storage: Storage, name: string, value: unknown): boolean {
  try {
    storage.setItem(PREFIX + name, JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
}
