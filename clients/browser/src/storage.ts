/** Small texts in one storage of the browser; in memory where the browser refuses the storage or it is full. */
export interface Texts {
  read(name: string): string | null;
  write(name: string, text: string): void;
  remove(name: string): void;
  clear(): void;
  /** Read a list; what is damaged is an empty one. */
  list<Element>(name: string): Element[];
  /** Write a list; nothing is kept of an empty one. */
  save(name: string, elements: unknown[]): void;
}

const NAMES = ["user", "session", "queue", "merges", "owner"];

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
  const read = (name: string): string | null => {
    const text = memory.get(name);
    if (text !== undefined) return text;
    try {
      return window[kind].getItem("midstream." + name);
    } catch {
      return null;
    }
  };
  const write = (name: string, text: string): void => {
    remove(name);
    try {
      window[kind].setItem("midstream." + name, text);
    } catch {
      memory.set(name, text);
    }
  };
  return {
    read,
    write,
    remove,
    list(name) {
      try {
        const found: unknown = JSON.parse(read(name) ?? "[]");
        return Array.isArray(found) ? found : [];
      } catch {
        return [];
      }
    },
    save(name, elements) {
      if (elements.length) write(name, JSON.stringify(elements));
      else remove(name);
    },
    clear() {
      NAMES.forEach(remove);
    },
  };
}

/** Draw an id of 128 random bits. `crypto.randomUUID` is missing on pages without TLS, `getRandomValues` is not. */
export function drawId(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => (byte + 256).toString(16).slice(1)).join("");
}

/** Hash a text to 32 bits: whether two are the same, without keeping them. */
export function hash(text: string): string {
  let sum = 5381;
  for (const character of text) sum = (Math.imul(sum, 33) ^ character.codePointAt(0)!) >>> 0;
  return String(sum);
}
