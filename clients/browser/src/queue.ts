import type { Texts } from "./storage.js";
import type { Interaction } from "./types.js";

/** Events kept at most; the oldest one is discarded for the next. */
const EVENTS_MAX = 200;

/** Queue of events in a storage that all tabs of a shop may share, so it is read anew before each change. */
export interface Queue {
  /** Number of events that were discarded. */
  dropped: number;
  all(): Interaction[];
  /** Keep the events for which a condition holds. */
  keep(condition: (event: Interaction) => boolean): void;
  add(...events: Interaction[]): void;
}

/** Make a queue; `storage` returns where it lives at this level of consent. */
export function makeQueue(storage: () => Texts): Queue {
  const all = (): Interaction[] => storage().list("queue");
  const write = (events: Interaction[]): void => storage().save("queue", events);
  const queue: Queue = {
    dropped: 0,
    all,
    keep(condition) {
      write(all().filter(condition));
    },
    add(...events) {
      if (!events.length) return;
      const joined = [...all(), ...events];
      queue.dropped += Math.max(0, joined.length - EVENTS_MAX);
      write(joined.slice(-EVENTS_MAX));
    },
  };
  return queue;
}
