/** Operations of a shop's program on a server. Fields, limits and errors are those of the documentation of its routes. */

import { AnswerPending, Refused } from "./errors.js";
import { type ClientOptions, DEFAULTS, Exchange, pathOf, type Request, target } from "./exchange.js";
import { Positions, visitorsOf } from "./positions.js";
import type {
  Batch,
  BatchBody,
  BulkAnswer,
  DeadLetter,
  EventPage,
  EventsAnswer,
  Explained,
  FeatureReadAnswer,
  ItemPage,
  LetterPage,
  ListedItem,
  ListedRequest,
  ListedUser,
  Page,
  PageBody,
  PastFeaturesAnswer,
  PlacementDetail,
  PlacementList,
  PreviewSlates,
  RankBody,
  RecommendationBody,
  RemovedLetters,
  RequestPage,
  RetractionAnswer,
  RetriedLetters,
  Slate,
  UserPage,
  UserRanking,
  ValueRanking,
  WireEvent,
} from "./schema.js";

/** A document without a fixed set of fields. */
export type JsonObject = Record<string, unknown>;
export type Events = WireEvent | readonly WireEvent[];
type WithEvents<T> = Omit<T, "events"> & { events?: Events };
export type Question = WithEvents<RecommendationBody>;
export type RankQuestion = WithEvents<Omit<RankBody, "items">>;
export type PageQuestion = WithEvents<Omit<PageBody, "placements">>;
export type BatchQuestion = Omit<BatchBody, "users">;
export type ItemSlateQuestion = Omit<RecommendationBody, "placement" | "items" | "events" | "cursor" | "item_fields">;
/** A change of one item or user; without an `event_id` the client makes one. */
export interface ChangeFields {
  time?: number | string;
  event_id?: string;
}
/** A read of features as of a past moment: `features` left out are all that are declared. */
export interface PastQuestion {
  features?: readonly string[];
  user_id?: string;
  session_id?: string;
}
/** A read of features: `features` left out are all that are declared. */
export type FeatureQuestion = Pick<
  RecommendationBody,
  "user_id" | "session_id" | "context" | "item_fields" | "min_log_position"
> & { features?: readonly string[] };
export type PreviewQuestion = Omit<
  RecommendationBody,
  "events" | "placement" | "min_log_position" | "explain" | "reasons" | "cursor"
>;
/** A value of a feature, of one item or user; null takes it away. */
export interface FeatureValue extends ChangeFields {
  id: string;
  value: number | boolean | string | readonly (number | string)[] | null;
}
/** A change among many. */
export type Change = JsonObject & ChangeFields;
export interface ListFields {
  filter?: string;
  fields?: readonly string[];
  /** Rows of one request; the iterator goes over all pages. */
  limit?: number;
}
export interface TimedFields {
  since?: number | string;
  until?: number | string;
  limit?: number;
}
/** Of a removal of dead letters: `all` of them in parts, from the one behind `after`, in place of numbers. */
export interface LetterFields {
  all?: boolean;
  after?: number;
}
/** Of a retry of dead letters: `event` is sent in place of that of the one letter. */
export interface RetryFields extends LetterFields {
  event?: WireEvent | JsonObject;
}
interface Paged {
  next_cursor?: string | null;
}

const JOB_WAIT_S = 10;

export class Client {
  readonly #exchange: Exchange;
  readonly #positions: Positions;
  readonly #options: typeof DEFAULTS & ClientOptions;

  /** @param url Of the server, with the path of a mount behind it. @param key API key. */
  constructor(url: string, key?: string, options: ClientOptions = {}) {
    if (!/^https?:\/\/[^/]/.test(url)) throw new TypeError(`${url} is no address; right is http://HOST:PORT`);
    this.#options = { ...DEFAULTS, ...options };
    this.#exchange = new Exchange(url.replace(/\/+$/, ""), key, this.#options);
    this.#positions = new Positions(this.#options.visitorsMax);
  }

  /** Log position of this client's newest change. */
  get position(): string | undefined {
    return this.#positions.newest;
  }

  /** Let every later question of this client wait for a position, as of another client's change. */
  set position(position: string | undefined) {
    if (position !== undefined) this.#positions.note(position, []);
  }

  /** Record events; they are durable and applied when this resolves. Each without an id gets one. */
  async record(events: Events, { results = false, dry_run = false } = {}): Promise<EventsAnswer> {
    const query = { results: results ? "all" : undefined, dry_run: dry_run || undefined };
    return this.#changed({ method: "POST", target: target(["events"], query), body: withIds(events) });
  }

  /** Return a slate, best first. */
  async recommend(question: Question = {}): Promise<Slate> {
    return this.#asked<Slate>("recommendations", question);
  }

  /** Return a slate for each of up to 100 users. */
  async recommendMany(users: readonly string[], question: BatchQuestion = {}): Promise<Batch> {
    return this.#asked<Batch>("recommendations/batch", { ...question, users });
  }

  /** Return up to 1,000 items of the caller in the order of a placement. */
  async rank(items: readonly string[], question: RankQuestion = {}): Promise<Slate> {
    return this.#asked<Slate>("rank", { ...question, items });
  }

  /** Return the slates of several placements, by falling priority, with no item in two of them. */
  async page(placements: readonly (string | JsonObject)[], question: PageQuestion = {}): Promise<Page> {
    const rows = placements.map((each) => (typeof each === "string" ? { placement: each } : each));
    return this.#asked<Page>("pages", { ...question, placements: rows });
  }

  /** Return items like one item, best first. */
  async similar(itemId: string, question: ItemSlateQuestion = {}): Promise<Slate> {
    return this.#askedByQuery(["items", itemId, "similar"], question);
  }

  /** Return items that have the words of a text, best first. */
  async search(text: string, question: ItemSlateQuestion = {}): Promise<Slate> {
    return this.#askedByQuery(["items", "search"], { q: text, ...question });
  }

  /** Return the users who are likely to act on an item, or with `acted` those who have. */
  async usersForItem(itemId: string, wanted: { n?: number; acted?: boolean } = {}): Promise<UserRanking> {
    return this.#exchange.document({ method: "GET", target: target(["items", itemId, "users"], wanted) });
  }

  /** Return the users who have acted on the same items. */
  async similarUsers(userId: string, wanted: { n?: number } = {}): Promise<UserRanking> {
    return this.#exchange.document({ method: "GET", target: target(["users", userId, "similar"], wanted) });
  }

  /** Return categories, brands or other values for a user; with `new` those that the user's acts have not. */
  async values(userId: string, attribute: string, wanted: { n?: number; new?: boolean } = {}): Promise<ValueRanking> {
    const path = target(["users", userId, "values"], { attribute, ...wanted });
    return this.#exchange.document({ method: "GET", target: path });
  }

  /** Return the values of features of up to 1,000 items, for a user and a session. */
  async features(items: readonly string[], question: FeatureQuestion = {}): Promise<FeatureReadAnswer> {
    return this.#asked<FeatureReadAnswer>("features/read", { ...question, items });
  }

  /** Return the values that features of up to 20 items had at a past moment, from the log. */
  async featuresAsOf(
    time: number | string,
    items: readonly string[],
    question: PastQuestion = {},
  ): Promise<PastFeaturesAnswer> {
    const { features, ...asker } = question;
    return this.#made<PastFeaturesAnswer>(["features", "as-of"], { time, item: items, feature: features, ...asker });
  }

  /** Set up to 500 values of a feature that is an attribute or a field of profiles. Each without an id gets one. */
  async setFeatureValues(name: string, values: readonly FeatureValue[]): Promise<EventsAnswer> {
    const body = { values: withIds(values as unknown as readonly Change[]) };
    return this.#changed({ method: "POST", target: target(["features", name]), body }, [{}]);
  }

  async item(itemId: string): Promise<JsonObject> {
    return this.#exchange.document({ method: "GET", target: pathOf(["items", itemId]) });
  }

  /** Set all attributes of an item; those that are not named are gone. */
  async putItem(itemId: string, attributes: JsonObject, change: ChangeFields = {}): Promise<EventsAnswer> {
    return this.#changedOne("PUT", ["items", itemId], attributes, change);
  }

  /** Set the named attributes of an item; null takes one away. */
  async patchItem(itemId: string, attributes: JsonObject, change: ChangeFields = {}): Promise<EventsAnswer> {
    return this.#changedOne("PATCH", ["items", itemId], attributes, change);
  }

  /** Remove an item from all answers. */
  async deleteItem(itemId: string, change: ChangeFields = {}): Promise<EventsAnswer> {
    return this.#changedOne("DELETE", ["items", itemId], undefined, change);
  }

  /** Change up to 500 items. */
  async changeItems(changes: readonly Change[]): Promise<EventsAnswer> {
    return this.#changed({ method: "POST", target: target(["items"]), body: withIds(changes) });
  }

  /** Set all attributes of any number of items in one stream. */
  async putItems(changes: readonly Change[]): Promise<BulkAnswer> {
    return this.#streamed("PUT", "items", changes);
  }

  /** Set the named attributes of any number of items in one stream. */
  async patchItems(changes: readonly Change[]): Promise<BulkAnswer> {
    return this.#streamed("PATCH", "items", changes);
  }

  async user(userId: string): Promise<JsonObject> {
    return this.#exchange.document({ method: "GET", target: pathOf(["users", userId]) });
  }

  /** Set all attributes of a user; those that are not named are gone. */
  async putUser(userId: string, attributes: JsonObject, change: ChangeFields = {}): Promise<EventsAnswer> {
    return this.#changedOne("PUT", ["users", userId], attributes, change);
  }

  /** Set the named attributes of a user; null takes one away. */
  async patchUser(userId: string, attributes: JsonObject, change: ChangeFields = {}): Promise<EventsAnswer> {
    return this.#changedOne("PATCH", ["users", userId], attributes, change);
  }

  /** Change up to 500 users. */
  async changeUsers(changes: readonly Change[]): Promise<EventsAnswer> {
    return this.#changed({ method: "POST", target: target(["users"]), body: withIds(changes) });
  }

  /** Set all attributes of any number of users in one stream. */
  async putUsers(changes: readonly Change[]): Promise<BulkAnswer> {
    return this.#streamed("PUT", "users", changes);
  }

  /** Set the named attributes of any number of users in one stream. */
  async patchUsers(changes: readonly Change[]): Promise<BulkAnswer> {
    return this.#streamed("PATCH", "users", changes);
  }

  /** Make another user this one, as when an anonymous visitor signs in. */
  async merge(userId: string, mergedId: string, change: ChangeFields = {}): Promise<EventsAnswer> {
    return this.#changedOne("POST", ["users", userId, "merge"], { user_id: mergedId }, change);
  }

  /** Erase the personal data of a user. */
  async erase(userId: string): Promise<JsonObject & { log_position: string; erase_by: string; ids_count: number }> {
    const request = { method: "DELETE", target: pathOf(["users", userId]) };
    const answer = await this.#exchange.document<{ log_position: string; erase_by: string; ids_count: number }>(request);
    this.#positions.note(answer.log_position, visitorsOf({ user_id: userId }));
    return { ...answer };
  }

  /** Take the act with an event id back, as after a mis-click; a repeated attempt takes nothing else back. */
  async retract(eventId: string, act: { user_id?: string } = {}): Promise<RetractionAnswer> {
    return this.#retracted(pathOf(["events", eventId], act), act);
  }

  /** Take the newest act of one type that a user did with an item back; a repeated attempt takes no other one. */
  async retractNewest(
    userId: string,
    eventType: string,
    itemId: string,
    act: { time?: number | string } = {},
  ): Promise<RetractionAnswer> {
    const query = { type: eventType, item_id: itemId, ...act };
    return this.#retracted(pathOf(["users", userId, "events"], query), { user_id: userId });
  }

  async #retracted(path: string, visitor: { user_id?: string }): Promise<RetractionAnswer> {
    const answer = await this.#exchange.document<RetractionAnswer>({ method: "DELETE", target: path });
    this.#positions.note(answer.log_position, visitorsOf(visitor));
    return answer;
  }

  /** Yield the items that pass a filter, in the order in which they became known. */
  items(wanted: ListFields = {}): AsyncGenerator<ListedItem> {
    return this.#listed<ItemPage, ListedItem>(["items"], { ...wanted }, (page) => page.items);
  }

  /** Yield the users who pass a filter, the one seen last first. */
  users(wanted: ListFields = {}): AsyncGenerator<ListedUser> {
    return this.#listed<UserPage, ListedUser>(["users"], { ...wanted }, (page) => page.users);
  }

  /** Yield the events of a user, the newest first. */
  events(userId: string, wanted: TimedFields & { type?: readonly string[] } = {}): AsyncGenerator<JsonObject> {
    return this.#listed<EventPage, JsonObject>(["users", userId, "events"], { ...wanted }, (page) => page.events);
  }

  /** Yield served slates, the newest first. */
  requests(wanted: TimedFields & { user_id?: string; placement?: string } = {}): AsyncGenerator<ListedRequest> {
    return this.#listed<RequestPage, ListedRequest>(["requests"], { ...wanted }, (page) => page.requests);
  }

  /** Return the served record of a slate. */
  async served(requestId: string): Promise<JsonObject> {
    return this.#exchange.document({ method: "GET", target: pathOf(["requests", requestId]) });
  }

  /** Return why a slate is as it is, and why further items are where they are. */
  async explanation(requestId: string, items: readonly string[] = []): Promise<Explained> {
    return this.#made<Explained>(["requests", requestId, "explanation"], { item: items });
  }

  /** Yield the dead letters, the newest first, each with the beginning of its event. */
  async *deadLetters(wanted: { limit?: number } = {}): AsyncGenerator<DeadLetter> {
    let after: number | null | undefined;
    do {
      const path = target(["dead-letters"], { ...wanted, after });
      const page: LetterPage = await this.#exchange.document({ method: "GET", target: path });
      yield* page.letters;
      after = page.next;
    } while (after);
  }

  /** Return one dead letter with its whole event. */
  async deadLetter(number: number): Promise<DeadLetter> {
    return this.#exchange.document({ method: "GET", target: pathOf(["dead-letters", String(number)]) });
  }

  /** Send up to 1,000 dead letters again; each one whose event is recorded now, or was before, is removed. */
  async retryDeadLetters(numbers: readonly number[] = [], wanted: RetryFields = {}): Promise<RetriedLetters> {
    const body = { numbers, ...wanted };
    return this.#exchange.document({ method: "POST", target: target(["dead-letters", "retry"]), body });
  }

  /** Remove up to 1,000 dead letters for good; their events are not sent any more. */
  async removeDeadLetters(numbers: readonly number[] = [], wanted: LetterFields = {}): Promise<RemovedLetters> {
    const body = { numbers, ...wanted };
    return this.#exchange.document({ method: "POST", target: target(["dead-letters", "remove"]), body });
  }

  async placements(): Promise<PlacementList> {
    return this.#exchange.document({ method: "GET", target: target(["placements"]) });
  }

  async placement(name: string): Promise<PlacementDetail> {
    return this.#exchange.document({ method: "GET", target: pathOf(["placements", name]) });
  }

  /** Set a placement. It is attempted again only where the first attempt surely had no effect. */
  async setPlacement(
    name: string,
    placement: JsonObject,
    said: { author: string; note?: string; if_version?: number },
  ): Promise<PlacementDetail> {
    const body = { placement, ...said };
    return this.#exchange.document({ method: "PUT", target: pathOf(["placements", name]), body, repeat: "refused" });
  }

  /** Give a placement back to the configuration file. It is attempted again only as `setPlacement` is. */
  async removePlacement(
    name: string,
    said: { author: string; note?: string; if_version?: number },
  ): Promise<PlacementDetail> {
    const path = pathOf(["placements", name], said);
    return this.#exchange.document({ method: "DELETE", target: path, repeat: "refused" });
  }

  /** Return the slate of a draft beside the one of today; nothing is recorded. */
  async previewPlacement(
    name: string,
    placement: JsonObject,
    question: PreviewQuestion = {},
  ): Promise<PreviewSlates> {
    const body = { placement, question };
    return this.#exchange.document({ method: "POST", target: target(["placements", name, "preview"]), body });
  }

  /** Return the health of the server, also where it is not ready. */
  async ready(): Promise<JsonObject> {
    const reply = await this.#exchange.reply({ method: "GET", target: "/health/ready", repeat: "never" });
    return this.#exchange.decoded(reply.status === 503 ? { ...reply, status: 200 } : reply);
  }

  async #changedOne(
    method: string,
    steps: readonly string[],
    body: JsonObject | undefined,
    change: ChangeFields,
  ): Promise<EventsAnswer> {
    const query = { ...change, event_id: change.event_id || crypto.randomUUID() };
    const visitors = steps[0] === "users" ? { user_id: steps[1] } : {};
    return this.#changed({ method, target: pathOf(steps, query), body }, [visitors]);
  }

  /** Send events or changes, and remember where they are in the log. */
  async #changed(request: Request, events = request.body as readonly JsonObject[]): Promise<EventsAnswer> {
    const answer = await this.#exchange.document<EventsAnswer>(request);
    this.#note(answer, events);
    return answer;
  }

  /** Send changes as lines, and remember where they are in the log. */
  async #streamed(method: string, kind: string, changes: readonly Change[]): Promise<BulkAnswer> {
    const lines = withIds(changes).map((each) => `${JSON.stringify(each)}\n`).join("");
    const request = { method, target: target([kind]), lines };
    const answer = await this.#exchange.document<BulkAnswer>(request);
    if (answer.log_position) this.#positions.note(answer.log_position, []);
    return answer;
  }

  #note(answer: EventsAnswer, events: readonly JsonObject[]): void {
    if (!answer.log_position) return;
    const named = events.map(visitorsOf);
    this.#positions.note(answer.log_position, named.flat());
    if (named.some((each) => each.length === 0)) this.#positions.note(answer.log_position, []);
  }

  /** Ask for what a process beside the server makes, again and again until it is there. */
  async #made<T>(steps: readonly string[], wanted: JsonObject): Promise<T> {
    const path = target(steps, { ...wanted, wait: `${JOB_WAIT_S}s` });
    const waitMs = 1_000 * JOB_WAIT_S;
    const end = performance.now() + Math.max(this.#options.deadlineMs, waitMs);
    let boundMs = this.#options.pauseMs;
    for (;;) {
      const reply = await this.#exchange.reply({ method: "GET", target: path, waitMs });
      if (reply.status !== 202) return this.#exchange.decoded<T>(reply);
      const pauseMs = Math.random() * boundMs;
      if (performance.now() + pauseMs >= end) {
        throw new AnswerPending(`${steps.join("/")} is still being made; the same call later returns it.`);
      }
      await new Promise((done) => setTimeout(done, pauseMs));
      boundMs = Math.min(2 * boundMs, this.#options.pauseMsMax);
    }
  }

  async #asked<T extends Slate | Page | Batch | FeatureReadAnswer>(route: string, question: JsonObject): Promise<T> {
    const events = question["events"] === undefined ? [] : withIds(question["events"] as Events);
    const whole = events.length > 0 ? { ...question, events } : question;
    const path = `/v1/${route}`;
    const answer = await this.#waiting(whole, (body) =>
      this.#exchange.document<T>({ method: "POST", target: path, body }),
    );
    if ("events" in answer && answer.events) this.#note(answer.events, events);
    return answer;
  }

  async #askedByQuery(steps: readonly string[], question: JsonObject): Promise<Slate> {
    const { context, ...fields } = question;
    const named = Object.entries((context ?? {}) as JsonObject).map(([name, value]) => [`context.${name}`, value]);
    return this.#waiting({ ...fields, ...(Object.fromEntries(named) as JsonObject) }, (query) =>
      this.#exchange.document<Slate>({ method: "GET", target: target(steps, query) }),
    );
  }

  /** Ask with the remembered log position; without it where the server does not know it. */
  async #waiting<T>(fields: JsonObject, ask: (fields: JsonObject) => Promise<T>): Promise<T> {
    const users = (fields["users"] ?? []) as readonly string[];
    const visitors = [...visitorsOf(fields), ...users.flatMap((each) => visitorsOf({ user_id: each }))];
    const isOwn = fields["min_log_position"] !== undefined && fields["min_log_position"] !== null;
    const position = isOwn || !this.#options.readYourWrites ? undefined : this.#positions.wanted(visitors);
    if (position === undefined) return ask(fields);
    try {
      return await ask({ ...fields, min_log_position: position });
    } catch (error) {
      if (!(error instanceof Refused && error.status === 400 && /^\/?min_log_position$/.test(error.where))) throw error;
      this.#positions.forget(position);
      return ask(fields);
    }
  }

  async *#listed<P extends Paged, Row>(
    steps: readonly string[],
    wanted: JsonObject,
    rowsOf: (page: P) => readonly Row[],
  ): AsyncGenerator<Row> {
    let cursor: string | null | undefined;
    do {
      const page: P = await this.#exchange.document({ method: "GET", target: target(steps, { ...wanted, cursor }) });
      yield* rowsOf(page);
      cursor = page.next_cursor;
    } while (cursor);
  }
}

/** Return events as a list, each with an id, so that a repetition is a duplicate. */
function withIds(events: Events | readonly Change[]): JsonObject[] {
  const listed = (Array.isArray(events) ? events : [events]) as readonly JsonObject[];
  return listed.map((each) => (each["event_id"] ? { ...each } : { ...each, event_id: crypto.randomUUID() }));
}
