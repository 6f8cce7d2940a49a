/** Small texts in one storage of the browser; in memory where the browser refuses the storage or it is full. */
export interface Texts {
  read(name: string): string | null;
  write(name: string, text: string): void;
  remove(name: string): void;
  clear(): void;
}

const NAMES = ["user", "session", "queue"];

/** Open a storage. The browser may throw at each access, even at the property itself. */
export function texts(kind: "localStorage" | "sessionStorage"): Texts {
  const memory = new Map<string, string>();
  const remove = (name: string): void => {
    memory.delete(name);
    try {
      window[kind].removeItem("midstream." + name);
    } catch {
      // There is no storage, so nothing is left in it.
    }
  };
  return {
    read(name) {
      const text = memory.get(name);
      if (text !== undefined) return text;
      try {
        return window[kind].getItem("midstream." + name);
      } catch {
        return null;
      }
    },
    write(name, text) {
      remove(name);
      try {
        window[kind].setItem("midstream." + name, text);
      } catch {
        memory.set(name, text);
      }
    },
    remove,
    clear() {
      NAMES.forEach(remove);
    },
  };
}

/** Draw an id of 128 random bits. `crypto.randomUUID` is missing on pages without TLS, `getRandomValues` is not. */
export function drawId(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => (byte + 256).toString(16).slice(1)).join("");
}
