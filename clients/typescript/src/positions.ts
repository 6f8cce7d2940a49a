/**
 * Log positions for read-your-writes: the newest one of each visitor, bounded, least recently written out first.
 *
 * Positions are opaque, so they are ordered by the moment at which their answers came.
 */
export class Positions {
  #ofVisitor = new Map<string, [count: number, position: string]>();
  #ofAll: [count: number, position: string] | undefined;
  #count = 0;
  /** Position of the newest change of any visitor or item. */
  newest: string | undefined;

  constructor(private readonly visitorsMax: number) {}

  /** Remember the position of a change; without a visitor every later question waits for it. */
  note(position: string, visitors: readonly string[]): void {
    this.newest = position;
    const entry: [number, string] = [++this.#count, position];
    if (visitors.length === 0) this.#ofAll = entry;
    for (const visitor of visitors) {
      this.#ofVisitor.delete(visitor);
      this.#ofVisitor.set(visitor, entry);
    }
    for (const oldest of this.#ofVisitor.keys()) {
      if (this.#ofVisitor.size <= this.visitorsMax) break;
      this.#ofVisitor.delete(oldest);
    }
  }

  /** Return the position that a question of these visitors waits for. */
  wanted(visitors: readonly string[]): string | undefined {
    let newest = this.#ofAll;
    for (const visitor of visitors) {
      const entry = this.#ofVisitor.get(visitor);
      if (entry !== undefined && (newest === undefined || entry[0] > newest[0])) newest = entry;
    }
    return newest?.[1];
  }

  /** Drop a position that the server does not know, as after a restore from a backup. */
  forget(position: string): void {
    for (const [visitor, entry] of this.#ofVisitor) if (entry[1] === position) this.#ofVisitor.delete(visitor);
    if (this.#ofAll?.[1] === position) this.#ofAll = undefined;
    if (this.newest === position) this.newest = undefined;
  }
}

/** Return the visitors whom an event or a question names. */
export function visitorsOf(fields: { user_id?: unknown; session_id?: unknown }): string[] {
  const found: string[] = [];
  if (typeof fields.user_id === "string") found.push(`user ${fields.user_id}`);
  if (typeof fields.session_id === "string") found.push(`session ${fields.session_id}`);
  return found;
}
