/**
 * One request with its repetitions.
 *
 * An attempt without an answer, or with 429, 502, 503, 504 or 507, is made again after a pause, at most `attemptsMax`
 * times and within `deadlineMs`. The pause is drawn from 0 to a bound that doubles, and is at least `Retry-After`.
 */

import { AnswerUnreadable, ClientError, refusalOf, ServerUnreachable } from "./errors.js";

/** How a client waits and repeats. */
export interface ClientOptions {
  /** Attempts of one request, the first included; 4. */
  attemptsMax?: number;
  /** Of a call with all its attempts and pauses; 10,000. */
  deadlineMs?: number;
  /** Of one attempt; 5,000. */
  timeoutMs?: number;
  /** Bound of the first pause; it doubles with each attempt; 100. */
  pauseMs?: number;
  /** Largest bound of a pause; 2,000. */
  pauseMsMax?: number;
  /** Visitors whose log positions are remembered; 10,000. */
  visitorsMax?: number;
  /** Send the remembered log position with questions; true. */
  readYourWrites?: boolean;
  /** Instead of the global one. */
  fetch?: typeof fetch;
}

export const DEFAULTS = {
  attemptsMax: 4,
  deadlineMs: 10_000,
  timeoutMs: 5_000,
  pauseMs: 100,
  pauseMsMax: 2_000,
  visitorsMax: 10_000,
  readYourWrites: true,
};

/**
 * When a request is sent again: `always`, where a second copy changes nothing; `refused`, where the first one surely
 * did nothing (429, or no connection came about); `never`.
 */
export type Repeat = "always" | "refused" | "never";

/** Codes of Node for a connection that did not come about, so nothing was sent. */
const NOT_CONNECTED = new Set([
  "ECONNREFUSED",
  "ENOTFOUND",
  "EAI_AGAIN",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "UND_ERR_CONNECT_TIMEOUT",
]);

/** Failure of an attempt. */
class NoReply {
  constructor(
    readonly reason: string,
    /** Whether the server may have received the request. */
    readonly wasSent: boolean,
  ) {}
}

export interface Request {
  method: string;
  /** Path and query. */
  target: string;
  body?: unknown;
  /** Lines of JSON, in place of a body. */
  lines?: string;
  repeat?: Repeat;
  /** How long the server itself may wait before it answers; the attempt has as much more time. */
  waitMs?: number;
}

export interface Reply {
  status: number;
  text: string;
}

const PASSING = new Set([429, 502, 503, 504, 507]);

export class Exchange {
  readonly #options: typeof DEFAULTS & ClientOptions;
  readonly #headers: Record<string, string>;

  constructor(
    readonly url: string,
    key: string | undefined,
    options: typeof DEFAULTS & ClientOptions,
  ) {
    this.#options = options;
    this.#headers = { accept: "application/json", ...(key ? { authorization: `Bearer ${key}` } : {}) };
  }

  /** Return the document of an answer. */
  async document<T>(request: Request): Promise<T> {
    return this.decoded<T>(await this.reply(request));
  }

  /** Return the document of a reply, or throw what it says. */
  decoded<T>(reply: Reply): T {
    if (reply.status < 200 || reply.status >= 300) throw refusalOf(reply.status, reply.text, this.url);
    try {
      return JSON.parse(reply.text) as T;
    } catch (error) {
      throw new AnswerUnreadable(`${this.url} answered ${reply.status} with no JSON: ${String(error)}`);
    }
  }

  /** Make attempts until an answer comes that no repetition would change. */
  async reply(request: Request): Promise<Reply> {
    const { attemptsMax, deadlineMs, pauseMsMax } = this.#options;
    const repeat = request.repeat ?? "always";
    const end = performance.now() + deadlineMs + (request.waitMs ?? 0);
    let boundMs = this.#options.pauseMs;
    for (let attempt = 1; ; attempt++) {
      const outcome = await this.#attempt(request, Math.max(1, end - performance.now()));
      let pauseMs = Math.random() * boundMs;
      let mayPass = repeat === "always" || (repeat === "refused" && outcome instanceof NoReply && !outcome.wasSent);
      if (outcome instanceof Response) {
        const header = outcome.headers.get("retry-after") ?? "";
        if (/^\d+$/.test(header)) pauseMs = Math.max(pauseMs, 1_000 * Number(header));
        mayPass = repeat === "always" ? PASSING.has(outcome.status) : repeat === "refused" && outcome.status === 429;
      }
      const isLast = attempt >= attemptsMax || performance.now() + pauseMs >= end;
      if (isLast || !mayPass) {
        if (outcome instanceof Response) return { status: outcome.status, text: await outcome.text() };
        const what = `${request.method} ${request.target} of ${this.url}`;
        throw new ServerUnreachable(`${what}: ${outcome.reason} (tried ${attempt})`);
      }
      if (outcome instanceof Response) await outcome.body?.cancel();
      await new Promise((done) => setTimeout(done, pauseMs));
      boundMs = Math.min(2 * boundMs, pauseMsMax);
    }
  }

  /** Return the answer to one attempt, or why there is none. */
  async #attempt(request: Request, leftMs: number): Promise<Response | NoReply> {
    const timeoutMs = Math.min(this.#options.timeoutMs + (request.waitMs ?? 0), leftMs);
    const init: RequestInit = {
      method: request.method,
      headers: this.#headers,
      signal: AbortSignal.timeout(Math.ceil(timeoutMs)),
    };
    if (request.lines !== undefined) {
      init.headers = { ...this.#headers, "content-type": "application/x-ndjson" };
      init.body = request.lines;
    } else if (request.body !== undefined) {
      init.headers = { ...this.#headers, "content-type": "application/json" };
      init.body = JSON.stringify(request.body);
    }
    try {
      const answer = await (this.#options.fetch ?? fetch)(this.url + request.target, init);
      // Read here, so that a connection that breaks in the middle of an answer is a failed attempt.
      const text = await answer.text();
      return new Response(answer.status === 204 ? null : text, { status: answer.status, headers: answer.headers });
    } catch (error) {
      if (!(error instanceof TypeError || error instanceof DOMException)) throw error;
      const { code } = (error.cause ?? {}) as { code?: unknown };
      return new NoReply(`${error.name}: ${error.message}`, !NOT_CONNECTED.has(String(code)));
    }
  }
}

/**
 * Return a path of steps, each percent-encoded, with a query string: lists repeated, null and undefined left out.
 *
 * The steps `.` and `..` are refused: `fetch` resolves them, encoded too, so they would lead to another route.
 */
export function target(steps: readonly string[], query: Record<string, unknown> = {}): string {
  const dots = steps.find((each) => each === "." || each === "..");
  if (dots !== undefined) throw new ClientError(`"${dots}" is no id that a path can have`);
  const pairs: string[] = [];
  for (const [name, value] of Object.entries(query)) {
    for (const each of Array.isArray(value) ? value : [value]) {
      if (each !== undefined && each !== null) {
        pairs.push(`${encodeURIComponent(name)}=${encodeURIComponent(String(each))}`);
      }
    }
  }
  const path = `/v1/${steps.map(encodeURIComponent).join("/")}`;
  return pairs.length > 0 ? `${path}?${pairs.join("&")}` : path;
}

/** Return the path of one thing; `items/search` and `events/bulk` are routes, so things of those ids are quoted. */
export function pathOf(steps: readonly string[], query: Record<string, unknown> = {}): string {
  const path = target(steps, query);
  if (steps.join("/") === "items/search") return path.replace("/search", "/%73earch");
  return steps.join("/") === "events/bulk" ? path.replace("/bulk", "/%62ulk") : path;
}
