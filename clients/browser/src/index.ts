import { makeObserve } from "./observe.js";
import { makeQueue } from "./queue.js";
import { drawId, hash, texts } from "./storage.js";
import type { Consent, Counts, Fields, Interaction, Options, Question, QuestionError, Slate, User } from "./types.js";

export type * from "./types.js";

/** Client of one page. */
export interface Client {
  /** Record an interaction: it is queued, and sent within a fifth of a second. */
  track(type: string, fields?: Fields): void;
  /** Ask for a slate that has seen the acknowledged events of this page. Rejects with a `QuestionError`. */
  recommend(placement: string, question?: Question): Promise<Slate>;
  /**
   * Report impressions and clicks of a slate: those of elements below `element` with `data-midstream-item="ID"`. An item
   * is seen when half of it was in sight for a second. Returns a function that ends it; so does the next call with the
   * same element.
   */
  observe(element: Element, slate: Slate): () => void;
  /** The visitor has signed in, so the anonymous id is merged into the user; without arguments: has signed out. */
  identify(id?: string, token?: string): Promise<void>;
  /** Change the level of consent. A lower one removes what the browser keeps. */
  consent(level: Consent): void;
  /** Send what waits; returns when the server has answered. */
  flush(): Promise<void>;
  counts(): Counts;
}

const LEVELS: Consent[] = ["necessary", "statistics", "personalised"];
const TOKEN_HEADER = "midstream-user-token";
const BATCH = 50;
/** Longest wait of a question for events that are being sent. */
const FLUSH_WAIT_MS = 500;
const TRACK_WAIT_MS = 200;
const RETRY_MS_MIN = 1_000;
const RETRY_MS_MAX = 60_000;
/** Longest wait that a server may ask for. Timers of a browser fire at once beyond 24 days. */
const RETRY_AFTER_MS_MAX = 3_600_000;
/** Merges kept at most, of visitors who signed in at this browser one after the other. */
const MERGES_MAX = 10;
/** Characters of a body that outlives its page: browsers allow 64 KiB, and a character has up to three bytes. */
const KEEPALIVE_MAX = 20_000;

/** Make the client of a page. */
export function init(options: Options): Client {
  const local = texts("localStorage");
  const session = texts("sessionStorage");
  const rankOf = (consent: Consent | undefined): number => Math.max(0, LEVELS.indexOf(consent ?? "necessary"));
  let rank = rankOf(options.consent);
  let user: User | undefined;
  let position: string | undefined;
  let timer: number | undefined;
  let retryMs = 0;
  let retryAt = 0;
  let batchMax = BATCH;
  /** User whose token is over, and one whose merges are not sent again by this page. */
  let over: User | undefined;
  let unmerged: User | undefined;
  let refused = 0;
  let flushing = Promise.resolve();
  /** Ids of events, and anonymous ids to be merged, that are on their way. */
  const sent = new Set<string>();
  const queue = makeQueue(() => (rank > 1 ? local : session));

  const forget = (): void => {
    if (rank < 2) local.clear();
    if (rank < 1) session.clear();
  };
  const drawn = (storage: typeof local, name: string): string => {
    const known = storage.read(name);
    if (known) return known;
    const id = "anon-" + drawId();
    storage.write(name, id);
    return id;
  };
  const visitor = (): { user_id?: string; session_id?: string } =>
    rank ? { ...(rank > 1 && { user_id: user?.id ?? drawn(local, "user") }), session_id: drawn(session, "session") } : {};

  /** Anonymous ids that are to be merged, each with the user that it is of. */
  const merges = (): [string, string][] => local.list("merges");
  /** Let a user sign in, or nobody: what was anonymous is of that user alone, and a session of one user only. */
  const enter = (next?: User): void => {
    user = next;
    if (!rank) return;
    const owner = session.read("owner");
    if (owner && owner !== (next && hash(next.id))) session.remove("session");
    if (next) session.write("owner", hash(next.id));
    else session.remove("owner");
    const anonymous = rank > 1 && next && local.read("user");
    if (!anonymous) return;
    local.remove("user");
    local.save("merges", [...merges(), [anonymous, next.id]].slice(-MERGES_MAX));
  };

  const post = (path: string, content: unknown): Promise<Response> => {
    const body = JSON.stringify(content);
    const headers: Record<string, string> = { "content-type": "application/json" };
    if (options.key) headers["x-api-key"] = options.key;
    if (rank > 1 && user?.token) headers[TOKEN_HEADER] = user.token;
    return fetch(options.url + path, {
      method: "POST",
      headers,
      body,
      credentials: "omit",
      keepalive: body.length < KEEPALIVE_MAX,
    });
  };

  const retry = (response?: Response): void => {
    retryMs = Math.min(RETRY_MS_MAX, retryMs * 2 || RETRY_MS_MIN);
    const asked = 1_000 * Number(response?.headers.get("retry-after") ?? 0) || 0;
    const wait = Math.min(RETRY_AFTER_MS_MAX, Math.max(retryMs, asked));
    const jittered = wait * (1 + Math.random() / 2);
    retryAt = Date.now() + jittered;
    schedule(jittered);
  };
  const schedule = (wait: number): void => {
    clearTimeout(timer);
    timer = window.setTimeout(() => {
      retryAt = 0; // timers and the clock differ by parts of a millisecond
      void flush();
    }, wait);
  };

  const problemOf = (response: Response): Promise<{ pointer?: string; detail?: string }> =>
    response.json().catch(() => ({}));

  /** Judge the answer to events that `asker` sent; return whether the next ones may be sent. */
  const settle = async (events: Interaction[], response: Response, asker?: User): Promise<boolean> => {
    const { status } = response;
    const done = (): void => queue.keep((event) => !events.some((each) => each.event_id === event.event_id));
    if (status === 200 || status === 422) {
      const answer: { log_position?: string } = await response.json();
      position = answer.log_position ?? position;
      batchMax = BATCH;
      retryMs = 0;
      done();
      return true;
    }
    if (status === 403 && (await problemOf(response)).pointer === TOKEN_HEADER) {
      over = asker; // what waits goes with the next token
      return false;
    }
    if (status !== 400 && status !== 403 && status !== 413) {
      retry(response);
      return false;
    }
    // One event that is refused takes no other with it: they are sent one by one.
    if (events.length > 1) {
      batchMax = 1;
    } else {
      refused++;
      done();
    }
    return true;
  };

  /** Send batches until none is left that is not on its way, then merge what is anonymous. */
  const deliver = async (): Promise<void> => {
    while (rank && !(user && user === over)) {
      const events = queue.all().filter((event) => !sent.has(event.event_id)).slice(0, batchMax);
      if (!events.length) break;
      events.forEach((event) => sent.add(event.event_id));
      try {
        const asker = user;
        if (!(await settle(events, await post("/v1/events", { events }), asker))) return;
      } catch {
        return retry();
      } finally {
        events.forEach((event) => sent.delete(event.event_id));
      }
    }
    const asker = user;
    if (rank < 2 || !asker || asker === over || asker === unmerged) return;
    for (const [anonymous, into] of merges()) {
      const isWaiting = sent.has(anonymous) || queue.all().some((event) => event.user_id === anonymous);
      if (into !== asker.id || user !== asker || isWaiting) continue;
      sent.add(anonymous);
      try {
        const response = await post(`/v1/users/${encodeURIComponent(into)}/merge`, { user_id: anonymous });
        const { status } = response;
        if (status === 401 || status === 408 || status === 429 || status > 499) return retry(response);
        const pointer = status === 403 && (await problemOf(response)).pointer;
        if (pointer === TOKEN_HEADER) {
          over = asker;
          return;
        }
        // A merge that is refused is kept for a later page, but one of an id that was merged before.
        if (status === 200 || pointer === "/user_id") {
          local.save("merges", merges().filter(([each]) => each !== anonymous));
        } else {
          unmerged = asker;
        }
      } catch {
        return retry();
      } finally {
        sent.delete(anonymous);
      }
    }
  };
  const flush = (): Promise<void> => {
    if (!rank || Date.now() < retryAt) return Promise.resolve();
    return (flushing = Promise.all([flushing, deliver()]).then(() => undefined));
  };
  const leave = (event: Event): void => {
    if (event.type === "pagehide") void deliver();
    else if (document.visibilityState === "hidden") void flush();
  };
  const track = (type: string, fields?: Fields): void => {
    if (!rank) return;
    queue.add({ ...fields, type, event_id: drawId(), time: Date.now(), ...visitor() });
    if (Date.now() >= retryAt) schedule(TRACK_WAIT_MS);
  };

  addEventListener("online", () => {
    retryAt = 0;
    void flush();
  });
  addEventListener("pagehide", leave);
  document.addEventListener("visibilitychange", leave);
  forget();
  enter(options.user);
  void flush();

  return {
    track,
    observe: makeObserve(track),
    flush,
    async recommend(placement, question) {
      await Promise.race([flush(), new Promise((resolve) => setTimeout(resolve, FLUSH_WAIT_MS))]);
      const ask = async (seen?: string): Promise<Slate> => {
        const known = seen && { min_log_position: seen };
        const response = await post("/v1/recommendations", { ...question, placement, ...visitor(), ...known });
        if (response.ok) return response.json();
        const answer = await problemOf(response);
        if (seen && response.status === 400 && answer.pointer === "/min_log_position") {
          position = undefined; // the server was restored, and its log is another one
          return ask();
        }
        const error = new Error(`midstream answered ${response.status}. ${answer.detail ?? ""}`) as QuestionError;
        throw Object.assign(error, { status: response.status, problem: answer });
      };
      return ask(rank ? position : undefined);
    },
    identify(id, token) {
      const sending = flush(); // with the token that proves what waits
      enter(id ? { id, ...(token && { token }) } : undefined);
      return sending.then(flush);
    },
    consent(level) {
      const next = rankOf(level);
      if (next === rank) return;
      const waiting = next > rank ? queue.all() : [];
      if (next < rank) {
        local.clear();
        session.clear();
        position = undefined;
      }
      session.remove("queue");
      rank = next;
      enter(user);
      queue.add(...waiting);
      void flush();
    },
    counts: () => ({ queued: rank ? queue.all().length : 0, dropped: queue.dropped, refused }),
  };
}
